package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/guest/proto"
)

func main() {
	if err := run(); err != nil {
		answer(proto.NewAnswer(0, proto.Error, err.Error()))
	}
	// A first program that returns would only make the kernel panic.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func run() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := loadDrivers(); err != nil {
		return err
	}
	return serve()
}

// loadDrivers loads the modules of the initramfs. Their names are in the order in which they need each other.
func loadDrivers() error {
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("load %s: %w", filepath.Base(file), err)
		}
	}
	return nil
}

// serve does what the host asks for, one request after the other, until the console ends.
func serve() error {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	if err := silenceConsole(); err != nil {
		return err
	}
	answer(proto.NewAnswer(0, proto.Event, proto.Hello{Kernel: strings.TrimSpace(string(release)), UML: true}))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		request, err := proto.ParseRequest(lines.Text())
		if err != nil {
			return err
		}
		event := func(v any) { answer(proto.NewAnswer(request.ID, proto.Event, v)) }
		if result, err := execute(request, event); err != nil {
			answer(proto.NewAnswer(request.ID, proto.Error, err.Error()))
		} else {
			answer(proto.NewAnswer(request.ID, proto.OK, result))
		}
	}
	return lines.Err()
}

// answer writes a line of its own, whatever the kernel has written before.
func answer(a proto.Answer) { fmt.Printf("\n%s\n", a) }

// silenceConsole stops the console from repeating what the host writes.
func silenceConsole() error {
	t, err := unix.IoctlGetTermios(unix.Stdin, unix.TCGETS)
	if err != nil {
		return os.NewSyscallError("TCGETS", err)
	}
	t.Lflag &^= unix.ECHO
	return os.NewSyscallError("TCSETS", unix.IoctlSetTermios(unix.Stdin, unix.TCSETS, t))
}
