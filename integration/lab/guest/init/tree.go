package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// treesDir has the trees, each in a folder of its own: what is the host's, what was written in the guest, and both together.
const treesDir = "/trees"

// scriptLimit ends a script that hangs. It is longer than tests wait, whose own limits say how long a script may take.
const scriptLimit = 4 * time.Hour

// tree shows a folder of the host as the root of a Linux system of its own, in which "script" runs programs. It needs User-mode
// Linux, which reaches the host's files. What is written there stays in the guest's memory. The second folder, if one is named, is
// under its own path in the tree, and what is written there is written on the host.
func tree(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	source, err := args.Text(1)
	if err != nil {
		return nil, err
	}
	root := treeRoot(name)
	if err := mountTree(name, source); err != nil {
		return nil, err
	}
	if err := mountSystem(root); err != nil {
		return nil, err
	}
	if shared, err := args.Text(2); err == nil {
		return nil, mountAt(filepath.Join(root, shared), "hostfs", 0, shared)
	}
	return nil, nil
}

func treeRoot(name string) string { return filepath.Join(treesDir, name, "root") }

// mountTree mounts a folder of the host, and over it one in memory.
func mountTree(name, source string) error {
	dir := filepath.Join(treesDir, name)
	lower, memory := filepath.Join(dir, "host"), filepath.Join(dir, "memory")
	upper, work := filepath.Join(memory, "written"), filepath.Join(memory, "work")
	if err := errors.Join(
		mountAt(lower, "hostfs", unix.MS_RDONLY, source), mountAt(memory, "tmpfs", 0, ""), os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755),
	); err != nil {
		return err
	}
	return mountAt(treeRoot(name), "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work))
}

// mountSystem mounts in a tree what programs expect of a system. Programs that manage networks wait for udev unless they may not
// write to /sys: so they know that they are in a container, where there is none.
func mountSystem(root string) error {
	return errors.Join(
		mountAt(root+"/proc", "proc", 0, ""), mountAt(root+"/sys", "sysfs", unix.MS_RDONLY, ""), mountAt(root+"/dev", "devtmpfs", 0, ""),
		mountAt(root+"/dev/pts", "devpts", 0, ""), mountAt(root+"/run", "tmpfs", 0, ""), mountAt(root+"/tmp", "tmpfs", 0, ""),
	)
}

// mountAt mounts a file system on a directory, which it makes if need be.
func mountAt(dir, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, dir, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, dir, err)
	}
	return nil
}

// script runs a file as a script of the shell of a tree, with more arguments, and returns what it prints and its exit status.
func script(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", args[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: treeRoot(name)}
	// A daemon that the script has started keeps the pipe open.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return nil, err
	}
	return proto.Outcome{Status: cmd.ProcessState.ExitCode(), Output: string(out)}, nil
}
