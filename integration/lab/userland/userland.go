package userland

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Userland is a generation of software.
type Userland int

// The generations.
const (
	Bookworm Userland = iota // Debian 12, as installed: QEMU 7.2, User-mode Linux 6.1, DPDK 22.11, a Linux 6.1 guest
	Forky                    // QEMU 11, User-mode Linux 7, DPDK 25.11, a Linux 7 guest
)

// InstallHint tells how to get what is missing.
const InstallHint = "run integration/install.sh"

// String returns the name of the generation.
func (u Userland) String() string {
	if u == Forky {
		return "Debian forky"
	}
	return "Debian 12"
}

// root returns the folder of the userland.
func (u Userland) root() (string, error) {
	if u == Bookworm {
		return "/", nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	root := filepath.Join(cache, "vring", "forky")
	_, err = os.Stat(filepath.Join(root, "recipe")) // the last file that is written
	return root, withHint(err)
}

// File returns where a file of the userland is on this machine.
func (u Userland) File(path string) (string, error) {
	root, err := u.root()
	if err != nil {
		return "", err
	}
	file := filepath.Join(root, path)
	_, err = os.Stat(file)
	return file, withHint(err)
}

// Tool returns the path of a program, for a process of the userland.
func (u Userland) Tool(name string) (string, error) {
	if u == Bookworm {
		return findInstalled(name)
	}
	for _, dir := range searched() {
		path := filepath.Join("/usr", dir, name)
		if _, err := u.File(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%v has no program %s; %s", u, name, InstallHint)
}

// searched returns the folders of programs. Those of sbin are not on the PATH of ordinary users.
func searched() []string { return []string{"bin", "sbin"} }

// findInstalled returns the path of an installed program.
func findInstalled(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range searched() {
		if path, err := exec.LookPath(filepath.Join("/usr", dir, name)); err == nil {
			return path, nil
		}
	}
	return "", withHint(err)
}

// Thread returns what makes a thread, and all that it then starts, one of the userland: it is for process.Options.Thread.
// more, if not nil, runs before; it may set more of the thread.
func (u Userland) Thread(more func() error) func() error {
	switch {
	case u == Bookworm:
		return more
	case more == nil:
		return u.enter
	}
	return func() error {
		if err := more(); err != nil {
			return err
		}
		return u.enter()
	}
}

// enter makes the calling thread one of the userland. The thread must not be used for anything else afterwards.
func (u Userland) enter() error {
	if target, err := os.Readlink("/lib64"); err != nil || filepath.Clean("/"+target) != "/usr/lib64" {
		return fmt.Errorf("programs of %v do not run here: /lib64 is no link to usr/lib64, as on Debian 12", u)
	}
	// Found before anything is mounted over the folder that may contain it.
	usr, err := u.File("usr")
	if err != nil {
		return err
	}
	etc, err := u.File("etc")
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("programs of %v need a mount namespace of their own, which only root may make: %w", u, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts in the namespace: %w", err)
	}
	return errors.Join(bind(etc, "/etc"), bind(usr, "/usr"))
}

// bind shows a folder in the place of another.
func bind(folder, place string) error {
	if err := unix.Mount(folder, place, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s as %s: %w", folder, place, err)
	}
	return nil
}

// withHint adds to an error what to do about it.
func withHint(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; %s", err, InstallHint)
}
