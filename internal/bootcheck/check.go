package bootcheck

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is what is booted.
type Config struct {
	Vring   string // the program, static: it runs on the host and as the guest's only program
	QEMU    string // the program
	Kernel  string // a kernel of this machine's kind
	Modules string // the directory of its modules, which has modules.dep
	KVM     bool   // the guest runs on the host's processor
	Command string // what vring is asked for to be the guest: see RunGuest

	Time time.Duration // how long Compare measures each figure, or so

	// Progress, if set, is told what happens now.
	Progress func(string)
}

// Step is the result of one check.
type Step struct {
	What  string
	Found string // what was seen
	Err   error  // why it failed
}

// queuePairs are those that the guest is given, with a processor for each.
const queuePairs = 2

// bootWait bounds the time until the guest has its lease, stepWait that of each step after it. An emulated guest on a busy machine takes
// a minute or so.
const (
	bootWait = 5 * time.Minute
	stepWait = 2 * time.Minute
)

// Run boots a guest, checks its network, and switches it off. The error is why there was nothing to check, with the end of what vring,
// QEMU and the guest's kernel printed.
func Run(ctx context.Context, c Config) ([]Step, error) {
	if err := usable(c.Kernel); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "vring-doctor-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	host, err := listen()
	if err != nil {
		return nil, err
	}
	defer host.close()
	c.tell("makes the guest's image")
	image := filepath.Join(dir, "image")
	if err := writeImage(image, c.Vring, c.Modules); err != nil {
		return nil, err
	}
	m, err := c.boot(ctx, dir, image, c.vringNetwork(endpoint{"unix", filepath.Join(dir, "guest")}, host.port(), queuePairs))
	if err != nil {
		return nil, err
	}
	defer m.end()
	r := &run{Config: c, machine: m, host: host, dir: dir}
	r.all(ctx)
	if ctx.Err() != nil {
		return r.steps, ctx.Err()
	}
	return r.steps, nil
}

// usable says what is wrong with a kernel's file.
func usable(kernel string) error {
	f, err := os.Open(kernel)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w; only root may read it here: run this as root, or name another kernel by --kernel and its modules by --modules", err)
	}
	if err != nil {
		return fmt.Errorf("%w; name a kernel for the guest by --kernel", err)
	}
	return f.Close()
}

func (c *Config) tell(what string) {
	if c.Progress != nil {
		c.Progress(what)
	}
}

// endpoint is where the host reaches the guest's Port.
type endpoint struct{ network, address string }

// network is what a guest is connected to.
type network struct {
	wrapper []string // a command that starts QEMU and adds the network, or none
	options []string // QEMU's options for the network, with a card; none if the wrapper adds them
	guest   endpoint // a forward to the guest
	host    string   // the address by which the guest reaches the host's loopback; "" is that of its router
	backEnd *process // a program of its own, nil if there is none
}

// vringNetwork has vring run add the network.
func (c *Config) vringNetwork(forward endpoint, hostPort, queues int) network {
	return network{
		wrapper: []string{
			c.Vring, "run", fmt.Sprintf("-p=%s:%s:%d", forward.network, forward.address, Port), fmt.Sprintf("--allow-host=tcp:%d", hostPort),
			fmt.Sprintf("--queues=%d", queues), "--",
		},
		guest: forward,
	}
}

// machine is QEMU, and what starts it.
type machine struct {
	*process
	guest endpoint
}

// boot starts a guest and waits for its lease.
func (c *Config) boot(ctx context.Context, dir, image string, n network) (*machine, error) {
	command := slices.Concat(n.wrapper, c.qemuCommand(image), n.options)
	c.tell("boots the guest")
	p, err := start(dir, command)
	if err != nil {
		return nil, err
	}
	m := &machine{process: p, guest: n.guest}
	if err := m.ready(ctx, bootWait); err != nil {
		m.end()
		return nil, fmt.Errorf("the guest has not come up: %w\n%s", err, m.console.tail())
	}
	return m, nil
}

// qemuCommand is QEMU's command line without a network, which vring run adds.
func (c *Config) qemuCommand(image string) []string {
	words := []string{c.QEMU, "-accel", "tcg", "-cpu", "max"}
	if c.KVM {
		words = []string{c.QEMU, "-accel", "kvm", "-cpu", "host"}
	}
	board, terminal := "q35", "ttyS0"
	if strings.HasSuffix(filepath.Base(c.QEMU), "aarch64") {
		board, terminal = "virt", "ttyAMA0"
	}
	return append(words, "-machine", board, "-m", "512M", "-smp", fmt.Sprint(queuePairs), "-nodefaults", "-no-reboot", "-display", "none",
		"-serial", "stdio", "-kernel", c.Kernel, "-initrd", image,
		"-append", "console="+terminal+" quiet panic=-1 rdinit=/vring -- "+c.Command)
}

// ready waits until the guest says that it has a lease.
func (m *machine) ready(ctx context.Context, wait time.Duration) error {
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case state := <-m.console.states:
		if state != stateReady {
			return errors.New(strings.TrimPrefix(state, stateFailed+" "))
		}
		return nil
	case <-m.exited:
		return errors.New("QEMU or vring has ended")
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
		return fmt.Errorf("nothing after %v", wait)
	}
}

// ask connects through a forward and asks for something.
func ask(guest endpoint, words ...any) (net.Conn, error) {
	conn, err := net.Dial(guest.network, guest.address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(stepWait)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if _, err := fmt.Fprintln(conn, words...); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// sink is the host's server that the guest sends to.
type sink struct{ listener net.Listener }

func listen() (*sink, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	return &sink{listener}, err
}

func (s *sink) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *sink) close() { _ = s.listener.Close() }

// take serves one connection: it receives data and tells what it got.
func (s *sink) take() error {
	conn, err := s.listener.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(stepWait)); err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	var n int64
	if _, err := fmt.Fscanf(r, requestReceive+" %d\n", &n); err != nil {
		return fmt.Errorf("the guest sends something else: %w", err)
	}
	return answerReceived(conn, r, n)
}

// discard reads a connection to its end.
func discard(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
