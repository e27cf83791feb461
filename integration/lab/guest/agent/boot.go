package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// ModuleDir holds the modules; the host names them with a number in front, in the order in which they need each other.
const ModuleDir = "/modules"

// Main is the life of a guest's first program: it boots, does its job, and switches the guest off. It does not return.
func Main(job func() error) {
	err := boot()
	if err == nil {
		err = job()
	}
	if err != nil {
		// A first program that returns would only make the kernel panic.
		fmt.Println(proto.NewAnswer(0, proto.Error, err.Error()))
	}
	PowerOff()
}

// boot mounts the file systems that the kernel offers, and loads all modules.
func boot() error {
	if err := mountAll(); err != nil {
		return err
	}
	files, err := filepath.Glob(ModuleDir + "/*.ko")
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := LoadModule(file); err != nil {
			return err
		}
	}
	return nil
}

// mountAll mounts on the directories that the initramfs has.
func mountAll() error {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// LoadModule loads a module file. One that is loaded already is no error.
func LoadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return os.NewSyscallError("load "+filepath.Base(file), err)
}

// PowerOff ends the guest. It does not return.
func PowerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// Restart boots the guest again. It does not return.
func Restart() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func kernelRelease() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(release))
}

// isUML tells User-mode Linux from a virtual machine.
func isUML() bool {
	info, _ := os.ReadFile("/proc/cpuinfo")
	return strings.Contains(string(info), "User Mode Linux")
}
