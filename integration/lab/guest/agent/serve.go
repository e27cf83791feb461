package agent

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// Serve says hello and runs the requests that come over the console, until the console ends. It does not wait for
// commands that are under way then.
func Serve(in *os.File, out io.Writer, commands map[string]Command) error {
	makeRaw(in)
	c := &console{out: out, commands: commands}
	c.send(proto.NewAnswer(0, proto.Event, proto.Hello{Kernel: kernelRelease(), UML: isUML()}))
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		request, err := proto.ParseRequest(lines.Text())
		if err != nil {
			c.send(proto.NewAnswer(0, proto.Error, err.Error()))
			continue
		}
		go func() { c.send(c.run(request)) }()
	}
	return lines.Err()
}

// console writes answers, one line at a time.
type console struct {
	commands map[string]Command

	mu  sync.Mutex
	out io.Writer
}

func (c *console) send(a proto.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A line of its own, whatever the kernel has written before.
	fmt.Fprintf(c.out, "\n%s\n", a)
}

// run executes one request and returns its last answer.
func (c *console) run(r proto.Request) proto.Answer {
	command, known := c.commands[r.Command]
	if !known {
		return proto.NewAnswer(r.ID, proto.Error, "unknown command "+r.Command)
	}
	event := func(v any) { c.send(proto.NewAnswer(r.ID, proto.Event, v)) }
	result, err := command(r.Args, event)
	if err != nil {
		return proto.NewAnswer(r.ID, proto.Error, err.Error())
	}
	return proto.NewAnswer(r.ID, proto.OK, result)
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
