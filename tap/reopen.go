package tap

import (
	"os"

	"golang.org/x/sys/unix"
)

// openProbe opens a socket to ask for interfaces by, if that will be needed: later none may be made.
func (d *Device) openProbe() error {
	if !d.cfg.Reopen {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	d.probe = fd
	return nil
}

// exists finds out the MTU of the interface, or that there is none: to join a device that does not exist would create
// it.
func (d *Device) exists() error {
	request, err := unix.NewIfreq(d.cfg.Name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(d.probe, unix.SIOCGIFMTU, request); err != nil {
		return os.NewSyscallError("SIOCGIFMTU", err)
	}
	d.mtu.Store(int32(request.Uint32()))
	return nil
}
