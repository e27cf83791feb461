package taps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
)

// The network of a turn: the TAP device, or one end of the veth pair, and the addresses of its two ends.
const (
	device      = "bench0"
	card        = "eth0" // of a guest
	hostAddress = "192.0.2.1"
	peerAddress = "192.0.2.2"
	prefix      = "/24"
)

// readyLimit is generous: everything is ready within some seconds.
const readyLimit = time.Minute

// arena is what one turn is set up in. What was started there ends when it is closed, in reverse order.
type arena struct {
	ctx  context.Context
	dir  string // its path is short: a socket's path has little room
	ends []func() error
}

func newArena(ctx context.Context) (*arena, error) {
	dir, err := os.MkdirTemp("", "taps")
	if err != nil {
		return nil, err
	}
	a := &arena{ctx: ctx, dir: dir}
	a.later(func() error { return os.RemoveAll(dir) })
	return a, nil
}

// later runs fn when the arena is closed.
func (a *arena) later(fn func() error) { a.ends = append(a.ends, fn) }

func (a *arena) close() error {
	var err error
	for _, end := range slices.Backward(a.ends) {
		err = errors.Join(err, end())
	}
	return err
}

func (a *arena) socket() string { return filepath.Join(a.dir, "s") }

// namespace makes a namespace for the turn. Its sockets are born with Reno, which every host allows: one that was born with
// BBR, a default of some hosts, is paced ever after, also when it is told to use another, and that would be measured.
func (a *arena) namespace() (*netns.Namespace, error) {
	n, err := netns.New()
	if err != nil {
		return nil, err
	}
	a.later(n.Close)
	return n, n.Sysctl("net.ipv4.tcp_congestion_control", "reno")
}

// start starts a program in a namespace.
func (a *arena) start(n *netns.Namespace, args ...string) (*process.Process, error) {
	p, err := process.Start(a.ctx, exec.Command(args[0], args[1:]...), process.Options{Thread: n.Enter})
	if err != nil {
		return nil, err
	}
	a.later(p.Kill)
	return p, nil
}

// run runs command lines in a namespace, until one fails.
func run(n *netns.Namespace, lines ...string) error {
	for _, line := range lines {
		if _, err := n.Run(line); err != nil {
			return err
		}
	}
	return nil
}

// build is a build of vring.
type build struct {
	label string
	path  string
}

// start starts vring with the TAP device and waits until a front end can connect. prefix is a command that runs another.
func (b build) start(a *arena, n *netns.Namespace, prefix ...string) (*process.Process, error) {
	return b.run(a, n, append(prefix, b.path, "tap", "--socket-path", a.socket(), "--tap", device)...)
}

// run is start with a command line.
func (b build) run(a *arena, n *netns.Namespace, args ...string) (*process.Process, error) {
	p, err := a.start(n, args...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(readyLimit); !strings.Contains(p.Output(), "msg=ready"); time.Sleep(5 * time.Millisecond) {
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s has ended: %s", b.label, lastLine(p.Output()))
		default:
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s is not ready: %s", b.label, lastLine(p.Output()))
		}
	}
	return p, nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// onProcessor is a command that runs another one on one processor.
func onProcessor(i int) []string { return []string{"taskset", "-c", strconv.Itoa(i)} }
