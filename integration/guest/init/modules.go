package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// moduleDir holds the modules; the host names them with a number in front, in the order in which they need each other.
const moduleDir = "/modules"

// loadDrivers loads all modules of the initramfs.
func loadDrivers() error {
	files, err := filepath.Glob(moduleDir + "/*.ko")
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := loadModule(file); err != nil {
			return err
		}
	}
	return nil
}

func loadModule(file string) error {
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

func insmod(args arguments, _ func(any)) (any, error) {
	name, err := args.text(0)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(moduleDir + "/*-" + name + ".ko")
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, os.ErrNotExist
	}
	return nil, loadModule(files[0])
}

func rmmod(args arguments, _ func(any)) (any, error) {
	name, err := args.text(0)
	if err != nil {
		return nil, err
	}
	return nil, os.NewSyscallError("unload "+name, unix.DeleteModule(name, unix.O_NONBLOCK))
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
