package sandbox

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// leaveRoot replaces the root directory by an empty one, if cfg says so, and tells how that went. Files that are open stay open.
func leaveRoot(cfg *Config) State {
	w := Wall{Name: "namespaces"}
	switch {
	case cfg.Shares != "":
		w.Lacks = cfg.Shares
	case !cfg.EmptyRoot:
		return nil
	default:
		if err := emptyRoot(); err != nil {
			w.Lacks = fmt.Sprintf("its root directory is the host's (%v)", err)
		} else {
			w.Keeps = "files (its root directory is empty), other processes, System V objects"
		}
	}
	return State{w}
}

// emptyRoot makes an empty file system the root directory of this process. It changes the namespace of mounts, which no process
// outside uses. pivot_root(2) describes the steps: the new root is mounted upon the old one, which is then taken off
// from beneath.
func emptyRoot() error {
	const (
		place = "/proc" // any directory that is there
		flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make its mounts private: %w", err)
	}
	if err := unix.Mount("none", place, "tmpfs", flags, "size=4k,nr_inodes=1,mode=0555"); err != nil {
		return fmt.Errorf("mount an empty file system: %w", err)
	}
	if err := unix.Mount("", place, "", flags|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make it one that cannot be written: %w", err)
	}
	if err := unix.Chdir(place); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}
