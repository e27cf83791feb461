package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The program, and the identifiers of the network in its options.
const (
	program    = "qemu-system-x86_64"
	netdevID   = "n"
	virtioCard = "virtio-net-pci"
	memoryMiB  = 256
)

// Options describe a machine.
type Options struct {
	// Userland is the generation of QEMU, and of the guest's kernel.
	Userland userland.Userland
	// Dir is an existing directory for the machine's sockets. Its path must be short: a socket's path has 107 bytes.
	Dir string
	// Initrd is the guest's initramfs. Without one the machine boots from the network (iPXE), and has no Console.
	Initrd string
	// Firmware is a file of the userland with firmware other than the BIOS, such as that of UEFI.
	Firmware string
	// KernelArgs are added to the kernel's command line.
	KernelArgs string
	// Socket is the vhost-user back end that QEMU connects to. If it and TAP are empty, Netdev counts.
	Socket string
	// Netdev is another network than a vhost-user back end, as QEMU's option of that name without an identifier, such as
	// "user,hostfwd=tcp:127.0.0.1:8080-:80". Empty means "user", QEMU's own network.
	Netdev string
	// Card is the model of the network card; empty means "virtio-net-pci".
	Card string
	// Reconnect makes QEMU connect again, every second, when the back end has gone.
	Reconnect bool
	// Listen turns the roles round: QEMU listens on Socket, also again when the back end has gone. Start then waits for the
	// back end, because QEMU does.
	Listen bool
	// Wrapper is a command that starts QEMU: its own command line is behind it. The machine then has private memory, and a card without
	// what a vhost-user back end needs: that is for Wrapper to add.
	Wrapper []string
	// TAP is the name of an existing TAP device that QEMU serves itself, instead of a back end on Socket.
	TAP string
	// MemorySlots is how many memory devices may be plugged in, see QMP.PlugMemory. The machine then has 512 MiB without them
	// instead of 256: the guest keeps a record of each page of a device.
	MemorySlots int
	// From is the machine whose guest is migrated here, see Machine.Migrate. The machine waits for it, and then has its Console.
	From *Machine
	// Queues is the number of queue pairs, with a processor for each; 0 means 1.
	Queues int
	// Device are more properties of the network card, such as "host_mtu=9000".
	Device []string
	// Output gets what the guest prints, if set. Writes must not block.
	Output io.Writer
	// Thread, if set, runs on the thread that starts QEMU, as in process.Options.
	Thread func() error
}

// Machine is a running QEMU.
type Machine struct {
	*process.Process
	Console *guest.Console // nil without an initramfs
	QMP     *QMP
	Input   io.WriteCloser // the guest's serial line; a Console writes there too

	dir    string
	follow func() // takes the Console over
}

// Start starts a machine and connects to its monitor. The machine ends with ctx.
func Start(ctx context.Context, opt Options) (*Machine, error) {
	path, err := opt.Userland.Tool(program)
	if err != nil {
		return nil, err
	}
	args, err := commandLine(opt)
	if err != nil {
		return nil, err
	}
	argv := slices.Concat(opt.Wrapper, []string{path}, args)
	p, in, out, err := process.StartInteractive(ctx, exec.Command(argv[0], argv[1:]...), process.Options{
		Output: opt.Output, Thread: opt.Userland.Thread(opt.Thread),
	})
	if err != nil {
		return nil, err
	}
	m := &Machine{Process: p, Input: in, dir: opt.Dir}
	switch {
	case opt.From != nil:
		m.Console = opt.From.Console
		m.follow = func() { m.Console.Follow(out, in) }
	case opt.Initrd != "":
		m.Console = guest.NewConsole(out, in, p.Output)
	default:
		go func() { _, _ = io.Copy(io.Discard, out) }()
	}
	m.QMP, err = dialMonitor(ctx, p, monitorSocket(opt.Dir))
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", errors.Join(err, p.Kill()), p.Output())
	}
	return m, nil
}

// dialMonitor is DialQMP for as long as QEMU runs: one that refuses its options ends at once.
func dialMonitor(ctx context.Context, p *process.Process, path string) (*QMP, error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.Done():
			cancel()
		case <-running.Done():
		}
	}()
	return DialQMP(running, path)
}

func monitorSocket(dir string) string { return filepath.Join(dir, "qmp") }

// commandLine returns QEMU's arguments.
func commandLine(opt Options) ([]string, error) {
	size, slots := memoryMiB, ""
	if opt.MemorySlots > 0 {
		size, slots = 2*memoryMiB, fmt.Sprintf(",slots=%d,maxmem=64G", opt.MemorySlots)
	}
	args := []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", strconv.Itoa(max(1, opt.Queues)), "-m", fmt.Sprintf("%dM", size) + slots,
		"-nographic", "-nodefaults", "-serial", "mon:stdio", "-machine", "q35",
		"-qmp", "unix:" + monitorSocket(opt.Dir) + ",server=on,wait=off",
	}
	if len(opt.Wrapper) == 0 {
		args = append(args, "-object", fmt.Sprintf("memory-backend-memfd,id=m,size=%dM,share=on", size), "-machine", "memory-backend=m")
	}
	if opt.Firmware != "" {
		args = append(args, "-bios", opt.Firmware)
	}
	args = append(args, network(opt)...)
	if opt.From != nil {
		args = append(args, "-incoming", "defer")
	}
	if opt.Initrd == "" {
		return append(args, "-boot", "n"), nil
	}
	kernel, err := guest.KernelImage(opt.Userland)
	if err != nil {
		return nil, err
	}
	return append(args, "-kernel", kernel, "-initrd", opt.Initrd,
		"-append", "console=ttyS0 quiet loglevel=1 panic=-1 "+opt.KernelArgs), nil
}

// network returns the arguments for the network card.
func network(opt Options) []string {
	device := cmp.Or(opt.Card, virtioCard) + ",netdev=" + netdevID
	if opt.Userland == userland.Bookworm && opt.Netdev == "" && len(opt.Wrapper) == 0 {
		device += ",vectors=0" // QEMU 7.2 dies in its MSI-X code when a driver starts a vhost-user device under TCG
	}
	if opt.Initrd != "" {
		device += ",romfile="
	}
	pairs := ""
	if opt.Queues > 1 {
		device += ",mq=on"
		pairs = fmt.Sprintf(",queues=%d", opt.Queues)
	}
	for _, property := range opt.Device {
		device += "," + property
	}
	switch {
	case opt.TAP != "":
		return []string{"-netdev", "tap,id=" + netdevID + ",ifname=" + opt.TAP + ",script=no,downscript=no" + pairs, "-device", device}
	case opt.Socket == "":
		return []string{"-netdev", cmp.Or(opt.Netdev, "user") + ",id=" + netdevID, "-device", device}
	}
	chardev := "socket,id=c,path=" + opt.Socket
	switch {
	case opt.Listen:
		chardev += ",server=on,wait=off"
	case opt.Reconnect:
		chardev += "," + reconnect(opt.Userland)
	}
	return []string{"-chardev", chardev, "-netdev", "vhost-user,id=" + netdevID + ",chardev=c" + pairs, "-device", device}
}

// StreamNetdev is Options.Netdev for a back end that listens on a socket for frames with their length before them. Only newer QEMUs connect
// again when it has gone.
func StreamNetdev(u userland.Userland, socket string) string {
	netdev := "stream,server=off,addr.type=unix,addr.path=" + socket
	if u == userland.Bookworm {
		return netdev
	}
	return netdev + "," + reconnect(u)
}

// reconnect returns the option that makes QEMU connect again every second. Newer ones know only that in milliseconds.
func reconnect(u userland.Userland) string {
	if u == userland.Bookworm {
		return "reconnect=1"
	}
	return "reconnect-ms=1000"
}
