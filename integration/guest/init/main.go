package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/guest/proto"
)

func main() {
	if err := mountAll(); err != nil {
		die(err)
	}
	if err := loadDrivers(); err != nil {
		die(err)
	}
	if strings.Contains(kernelCommandLine(), "vring.shell") {
		if err := runShell(); err != nil {
			die(err)
		}
		powerOff()
	}
	if err := serve(); err != nil {
		die(err)
	}
	powerOff()
}

// die says what is wrong and stops the guest: a first program that returns would only make the kernel panic.
func die(err error) {
	fmt.Println(proto.NewAnswer(0, proto.Error, err.Error()))
	powerOff()
}

// mountAll mounts the file systems that the kernel offers. The initramfs has the directories.
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

func kernelCommandLine() string {
	line, _ := os.ReadFile("/proc/cmdline")
	return string(line)
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// console writes answers, one line at a time.
type console struct {
	mu  sync.Mutex
	out *os.File
}

func (c *console) send(a proto.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A line of its own, whatever the kernel has written before.
	fmt.Fprintf(c.out, "\n%s\n", a)
}

// serve runs the requests that come over the console, until the console ends.
func serve() error {
	makeRaw(os.Stdin)
	c := &console{out: os.Stdout}
	c.send(proto.NewAnswer(0, proto.Event, proto.Hello{Kernel: kernelRelease(), UML: isUML()}))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		request, err := proto.ParseRequest(lines.Text())
		if err != nil {
			c.send(proto.NewAnswer(0, proto.Error, err.Error()))
			continue
		}
		go run(c, request)
	}
	return lines.Err()
}

// run executes one request and sends its answer.
func run(c *console, r proto.Request) {
	command, known := commands()[r.Command]
	if !known {
		c.send(proto.NewAnswer(r.ID, proto.Error, "unknown command "+r.Command))
		return
	}
	event := func(v any) { c.send(proto.NewAnswer(r.ID, proto.Event, v)) }
	result, err := command(arguments(r.Args), event)
	if err != nil {
		c.send(proto.NewAnswer(r.ID, proto.Error, err.Error()))
		return
	}
	c.send(proto.NewAnswer(r.ID, proto.OK, result))
}

// makeRaw stops the terminal from echoing requests and from changing line ends. On a console that is no terminal there
// is nothing to do.
func makeRaw(f *os.File) {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return
	}
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	t.Iflag &^= unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}
