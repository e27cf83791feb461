package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/internal/socketfile"
)

// Local is the host that this process runs on. socket is the path that a guest's socket is to have.
func Local(socket string) *Host {
	return &Host{
		Socket: socket, Kernel: kernelRelease(), PeekOffset: hostcaps.HasPeekOffset(), OpenFiles: hostcaps.OpenFiles(),
		NetAdmin: hostcaps.HasNetAdmin(), User: os.Getuid(),
		PingError: hostcaps.CheckPing(), Open: open, ReadFile: os.ReadFile, Version: version, QEMU: QEMUName(),
		KVM:         func() error { return tryKVM(kvmPath, true) },
		CheckSocket: socketfile.Check, Mode: modeOf(os.Stat),
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of unknown release"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func open(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// version asks a program for its version, and does not wait long.
func version(program string) (string, error) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	line, _, _ := bytes.Cut(out, []byte("\n"))
	if len(line) == 0 {
		return "", errors.New(program + " --version prints nothing")
	}
	return string(line), nil
}

// QEMUName is the QEMU program that emulates machines like this one.
func QEMUName() string {
	switch runtime.GOARCH {
	case "amd64":
		return "qemu-system-x86_64"
	case "arm64":
		return "qemu-system-aarch64"
	}
	return "qemu-system-" + runtime.GOARCH
}
