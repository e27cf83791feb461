package tap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RightsError is that this process may not do what it has to, and how it is permitted.
type RightsError struct {
	Err    error  // what failed
	Lack   string // what is missing, in words
	Remedy string // command for root
}

func (e *RightsError) Error() string {
	return fmt.Sprintf("%s (%v). Once, as root: %s", e.Lack, e.Err, e.Remedy)
}

func (e *RightsError) Unwrap() error { return e.Err }

// explain says what is behind an error of Open, as far as it is known. before is the device as it was found, nil for
// none.
func explain(cfg *Config, before *netlink.Tuntap, err error) error {
	path := new(os.PathError)
	failed := new(stepError)
	call := new(os.SyscallError)
	switch {
	case errors.As(err, &path) && errors.Is(err, fs.ErrNotExist):
		return &RightsError{err, "there is no " + tunPath, "modprobe tun"}
	case errors.As(err, &path) && errors.Is(err, fs.ErrPermission):
		return &RightsError{err, tunPath + " is not open to this user", "chmod 0666 " + tunPath}
	case errors.As(err, &failed) && errors.Is(err, fs.ErrPermission):
		return &RightsError{err, "CAP_NET_ADMIN is missing to set up " + cfg.Name, failed.command}
	case errors.As(err, &call) && call.Syscall == "TUNSETIFF":
		return explainJoin(cfg, before, err)
	}
	return err
}

// explainJoin says why the kernel does not give us the device.
func explainJoin(cfg *Config, before *netlink.Tuntap, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission) && before == nil:
		return &RightsError{err, "CAP_NET_ADMIN is missing to create TAP device " + cfg.Name, createCommand(cfg)}
	case errors.Is(err, fs.ErrPermission):
		lack := fmt.Sprintf("TAP device %s belongs to user %d, and this is user %d", cfg.Name, int32(before.Owner), os.Getuid())
		return &RightsError{err, lack, fmt.Sprintf("ip tuntap del dev %s mode tap; %s", cfg.Name, createCommand(cfg))}
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("TAP device %s is used by another process: %w", cfg.Name, err)
	}
	return fmt.Errorf("TAP device %s: %w", cfg.Name, err)
}

// createCommand makes the device as cfg wants it, for this user.
func createCommand(cfg *Config) string {
	command := fmt.Sprintf("ip tuntap add dev %s mode tap multi_queue vnet_hdr user %d; ip link set %s up",
		cfg.Name, os.Getuid(), cfg.Name)
	var settings []string
	if cfg.MTU != 0 {
		settings = append(settings, fmt.Sprintf(" mtu %d", cfg.MTU))
	}
	if cfg.MAC != nil {
		settings = append(settings, " address "+cfg.MAC.String())
	}
	if cfg.Bridge != "" {
		settings = append(settings, " master "+cfg.Bridge)
	}
	return command + strings.Join(settings, "")
}
