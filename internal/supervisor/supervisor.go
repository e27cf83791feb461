package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/servicemanager"
)

// Config says what is started.
type Config struct {
	Server    []string     // program that serves guests, with its arguments: it calls Inherit
	Broker    []string     // program that calls broker.Run, with its arguments
	FD        *int         // descriptor that the server gets under the same number; nil for none
	Sandbox   sandbox.Mode // of the supervisor itself
	Isolation Isolation    // of the server
	Manager   servicemanager.Manager
	Ready     func() // called once, when the server is ready; nil is nobody
	Reloads   bool   // SIGHUP asks the server to read its configuration again; else it is the caller's
}

// Run starts broker and server, and waits for the end of both. It returns the server's exit status. When ctx ends, the server
// is asked to end. SIGUSR1 asks it for its status, and SIGHUP to read its configuration again, if it does. Run is called once, and changes the process for good.
func Run(ctx context.Context, c Config) (status int, err error) {
	if c.Ready == nil {
		c.Ready = func() {}
	}
	runtime.LockOSThread() // the kernel kills the server when this thread ends
	asked := NewAsked()
	signal.Notify(asked.Status, unix.SIGUSR1)
	if c.Reloads {
		signal.Notify(asked.Reload, unix.SIGHUP)
	}

	becoming := c.Isolation.becoming()
	if u := c.Isolation.User; u != nil && becoming.StaysRoot != "" {
		return 0, fmt.Errorf("cannot become %s: %s", u.Name, becoming.StaysRoot)
	}
	p, err := startAll(&c, becoming)
	if err != nil {
		return 0, err
	}
	if err := confine(&c, becoming.User != nil); err != nil {
		return 0, err
	}
	wasReady := make(chan bool, 1)
	go func() { wasReady <- relay(p.states, c.Manager, c.Ready) }()
	go p.ask(ctx, asked)
	return p.wait(wasReady)
}

// confine puts the supervisor into a sandbox of its own; ofOther is that the server is another user's. The server tells how the sandbox
// stands.
func confine(c *Config, ofOther bool) error {
	_, err := sandbox.Enter(sandbox.Config{
		Mode: c.Sandbox, Children: true, KillsOther: ofOther, Notify: c.Manager.FD(), Log: slog.New(slog.DiscardHandler),
	})
	return err
}

// processes are those that a supervisor has started, and its ends of the pipes to the server.
type processes struct {
	server, broker *os.Process
	requests       *os.File // to the server: what is asked for
	states         *os.File // from the server: for the service manager
}

// startAll starts the broker, then the server. If the server does not start, the broker ends by itself: nobody tells it duties.
func startAll(c *Config, becoming Becoming) (*processes, error) {
	ends, err := openPipes()
	if err != nil {
		return nil, err
	}
	defer ends.closeOthers()
	p := &processes{requests: ends.requests.write, states: ends.states.read}
	if p.broker, ends.broker, err = broker.Spawn(c.Broker, ends.duties.read); err != nil {
		return nil, fmt.Errorf("start the process that does what is not possible in the sandbox: %w", err)
	}
	passed := openedAs(c.FD)
	if p.server, err = startServer(c, ends, passed, becoming); err != nil {
		return nil, fmt.Errorf("start the process that serves guests: %w", err)
	}
	_ = passed.Close() // only the server keeps it: its end must close the connection
	return p, nil
}

// startServer starts the process that serves guests. It gets passed under its own number, and its ends of the pipes behind it.
func startServer(c *Config, ends *pipes, passed *os.File, becoming Becoming) (*os.Process, error) {
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	if passed != nil {
		for len(files) <= *c.FD {
			files = append(files, nil)
		}
		files[*c.FD] = passed
	}
	first := len(files)
	files = append(files, ends.broker, ends.duties.write, ends.requests.read, ends.states.write)
	i := inheritance{Broker: first, Duties: first + 1, Requests: first + 2, States: first + 3, Becoming: becoming}
	return start(c.Server, files, i, c.Isolation)
}

// openedAs returns the file that is open under a number, nil if there is none: the server tells that.
func openedAs(fd *int) *os.File {
	if fd == nil {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(*fd), unix.F_GETFD, 0); err != nil {
		return nil
	}
	for _, standard := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if standard.Fd() == uintptr(*fd) {
			return standard
		}
	}
	return os.NewFile(uintptr(*fd), "inherited")
}

// relay passes on to the service manager what the server tells, until the server ends, and reports whether it was ready. The server
// may be in the hands of a guest: these states are all that it can tell.
func relay(from io.Reader, manager servicemanager.Manager, ready func()) (wasReady bool) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		switch s := servicemanager.State(lines.Text()); s {
		case servicemanager.Ready, servicemanager.Stopping, servicemanager.Reloading:
			manager.Tell(s)
			if s == servicemanager.Ready && !wasReady {
				wasReady = true
				ready()
			}
		}
	}
	return wasReady
}

// ask passes on to the server what this process is asked for, until ctx ends.
func (p *processes) ask(ctx context.Context, asked Asked) {
	defer p.requests.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked.Status:
			_, _ = p.requests.Write([]byte{requestStatus}) // a server that does not read ends, or is ended
		case <-asked.Reload:
			_, _ = p.requests.Write([]byte{requestReload})
		}
	}
}

// statusOfCrash is that of a Go program that crashes. The signal with which GOTRACEBACK=crash ends it does nothing to the first
// process of a namespace.
const statusOfCrash = 2

// wait waits for the end of both processes and returns the server's exit status. An error is that the server was killed, or has
// crashed: one that has been ready does not end with statusOfCrash otherwise.
func (p *processes) wait(wasReady <-chan bool) (status int, err error) {
	state, err := p.server.Wait()
	p.waitForBroker()
	if err != nil {
		return 0, err
	}
	if how := state.Sys().(syscall.WaitStatus); how.Signaled() {
		return 0, fmt.Errorf("the process that served guests was ended by a signal (%v)", how.Signal())
	}
	if <-wasReady && state.ExitCode() == statusOfCrash {
		return 0, errors.New("the process that served guests has crashed")
	}
	return state.ExitCode(), nil
}

// waitForBroker waits until the broker has undone what was changed on the host. It goes on to do so if this takes too long.
func (p *processes) waitForBroker() {
	const patience = 10 * time.Second
	ended := make(chan struct{})
	go func() {
		_, _ = p.broker.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
	}
}

// pipe is a pipe, by its ends.
type pipe struct{ read, write *os.File }

// pipes are what is between the processes.
type pipes struct {
	broker   *os.File // the server's end of the broker's socket; nil until the broker is started
	duties   pipe     // from the server to the broker
	requests pipe     // from the supervisor to the server
	states   pipe     // from the server to the supervisor
}

// openPipes opens all pipes, or none.
func openPipes() (*pipes, error) {
	p := new(pipes)
	var errs [3]error
	for i, one := range []*pipe{&p.duties, &p.requests, &p.states} {
		one.read, one.write, errs[i] = os.Pipe()
	}
	if err := errors.Join(errs[:]...); err != nil {
		p.closeOthers()
		_, _ = p.requests.write.Close(), p.states.read.Close()
		return nil, err
	}
	return p, nil
}

// closeOthers closes the ends that are the other processes'. Closing a file that was not opened is an error, which does not matter.
func (p *pipes) closeOthers() {
	for _, f := range []*os.File{p.broker, p.duties.read, p.duties.write, p.requests.read, p.states.write} {
		_ = f.Close()
	}
}
