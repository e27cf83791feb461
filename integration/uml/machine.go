package uml

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/guest"
	"github.com/vringnet/vring/integration/process"
)

const (
	program   = "linux.uml"
	memoryMiB = 256
	// virtioNet is the virtio device type of a network card.
	virtioNet = 1
)

// Options describe a machine.
type Options struct {
	// Dir is an existing directory for the machine's control socket, and for its memory if /dev/shm has no room.
	Dir string
	// Initrd is the guest's initramfs.
	Initrd string
	// Socket is the vhost-user back end to connect to. Empty means no network.
	Socket string
	// Output gets what the guest prints, if set. Writes must not block.
	Output io.Writer
}

// Machine is a running User-mode Linux.
type Machine struct {
	*process.Process
	Console *guest.Console
}

// Start starts a machine, which ends with ctx.
func Start(ctx context.Context, opt Options) (*Machine, error) {
	path, err := guest.FindTool(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, commandLine(opt)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+memoryDir(opt.Dir))
	p, in, out, err := process.StartInteractive(ctx, cmd, process.Options{Thread: refuseRegSets, Output: opt.Output})
	if err != nil {
		return nil, err
	}
	return &Machine{Process: p, Console: guest.NewConsole(out, in)}, nil
}

// memoryDir returns where the guest's memory is to be: a file that UML makes and at once removes. In /dev/shm it is never
// written to a disk, but a container may have little of that.
func memoryDir(otherwise string) string {
	const shm = "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 2*memoryMiB<<20 {
		return otherwise
	}
	return shm
}

// commandLine returns the kernel's arguments.
func commandLine(opt Options) []string {
	args := []string{
		fmt.Sprintf("mem=%dM", memoryMiB), "initrd=" + opt.Initrd, "root=/dev/ram0", "rdinit=/init", "uml_dir=" + opt.Dir,
		"con=null", "con0=fd:0,fd:1", "console=tty0", "quiet", "loglevel=1", "panic=-1",
		// For /init: without the larger register sets nothing saves the AVX registers of the guest's threads.
		"GODEBUG=cpu.all=off",
		"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-AVX512VL,-ERMS,-FSRM,-XSAVEC,-XSAVE",
	}
	if opt.Socket != "" {
		args = append(args, fmt.Sprintf("virtio_uml.device=%s:%d", opt.Socket, virtioNet))
	}
	return args
}
