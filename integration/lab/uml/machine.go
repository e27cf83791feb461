package uml

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

const (
	program   = "linux.uml"
	memoryMiB = 256
	// virtioNet is the virtio device type of a network card.
	virtioNet = 1
)

// Options describe a machine.
type Options struct {
	// Userland is the generation of User-mode Linux.
	Userland userland.Userland
	// Dir is an existing directory for the machine's control socket, and for its memory if /dev/shm has no room.
	Dir string
	// Initrd is the guest's initramfs.
	Initrd string
	// Socket is the vhost-user back end to connect to. Empty means no network.
	Socket string
	// BESS makes Socket one of packets, each of them a frame, without virtio.
	BESS bool
	// Output gets what the guest prints, if set. Writes must not block.
	Output io.Writer
	// Pinned binds the machine to one processor of the host. Its only processor is two processes of the host, its kernel
	// and its program, which wait for each other at each system call and fault. On one processor they change over twice
	// as fast as on two, where the scheduler puts them by chance: to measure is to know which.
	Pinned bool
}

// prepare is for the thread that becomes the machine.
func (o Options) prepare() error {
	if o.Pinned {
		if err := pin(); err != nil {
			return err
		}
	}
	if o.Userland == userland.Bookworm {
		return refuseRegSets() // 7.2 needs it no more, and even fails with it
	}
	return nil
}

// pin binds the thread, and all that it starts, to the last processor that it may use.
func pin() error {
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("ask for the processors of the thread: %w", err)
	}
	last := 0
	for cpu, left := 0, allowed.Count(); left > 0; cpu++ {
		if allowed.IsSet(cpu) {
			last = cpu
			left--
		}
	}
	one.Set(last)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("bind the machine to processor %d: %w", last, err)
	}
	return nil
}

// Machine is a running User-mode Linux.
type Machine struct {
	*process.Process
	Console *guest.Console
}

// Start starts a machine, which ends with ctx.
func Start(ctx context.Context, opt Options) (*Machine, error) {
	path, err := opt.Userland.Tool(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, commandLine(opt)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+memoryDir(opt.Dir))
	p, in, out, err := process.StartInteractive(ctx, cmd, process.Options{
		Thread: opt.Userland.Thread(opt.prepare), Output: opt.Output,
	})
	if err != nil {
		return nil, err
	}
	return &Machine{Process: p, Console: guest.NewConsole(out, in, p.Output)}, nil
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
	}
	if opt.Userland == userland.Bookworm {
		// For /init: without the larger register sets nothing saves the AVX registers of the guest's threads.
		args = append(args, "GODEBUG=cpu.all=off",
			"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-AVX512VL,-ERMS,-FSRM,-XSAVEC,-XSAVE")
	}
	if opt.Socket != "" && opt.BESS {
		args = append(args, "vec0:transport=bess,dst="+opt.Socket)
	} else if opt.Socket != "" {
		args = append(args, fmt.Sprintf("virtio_uml.device=%s:%d", opt.Socket, virtioNet))
	}
	return args
}
