package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/servicemanager"
)

// endPatience is how long the sidecar may take to end when it is asked to.
const endPatience = time.Minute

// ErrNotReady is that the sidecar has ended before it was ready. It has told why on standard error.
var ErrNotReady = errors.New("it has ended before it was ready")

// Config says what runs.
type Config struct {
	Sidecar []string // its program and arguments
	Program []string
	// Dir is a directory that nobody else can write to. The socket is made there by which the sidecar says that it is ready.
	Dir string
	// Lost is called when the sidecar ends before the program. The program goes on.
	Lost func(error)
}

// Run runs both until the program has ended, and returns the program's exit status as a shell tells it: that of a program that a signal
// has ended is 128 and the signal's number. Signals that end this process, and SIGUSR1 and SIGUSR2, are passed to the program. Both
// programs have the standard streams of this process, but for the sidecar's input; they end with it.
//
// The error is that one of them could not be started. Run keeps the thread that it is called on.
func Run(c Config) (status int, err error) {
	runtime.LockOSThread() // the kernel ends both programs when this thread ends
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passed()...)
	defer signal.Stop(signals)
	side, err := start(&c)
	if err != nil {
		return 0, err
	}
	defer side.stop()
	if got, err := side.wait(signals); err != nil || got != nil {
		return statusOf(got), err
	}
	program := command(c.Program)
	program.Stdin = os.Stdin
	if err := program.Start(); err != nil {
		return 0, err
	}
	return watch(program, side, signals, c.Lost), nil
}

// Beside runs a sidecar beside this process: serve is called when it is ready, with a context that ends with ctx, or with the sidecar. The
// sidecar ends when serve has returned. Of the Config, Program and Lost are not used. The error is that of serve, or why the sidecar has
// not been ready, or has ended before serve; nil if it has ended well.
func Beside(ctx context.Context, c Config, serve func(ctx context.Context) error) error {
	runtime.LockOSThread() // the kernel ends the sidecar when this thread ends
	defer runtime.UnlockOSThread()
	side, err := start(&c)
	if err != nil {
		return err
	}
	defer side.stop()
	told := make(chan struct{})
	go side.hear(told)
	select {
	case <-told:
	case <-ctx.Done():
		return nil
	case <-side.ended:
		return fmt.Errorf("%s: %w", side.cmd.Path, ErrNotReady)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- serve(ctx) }()
	select {
	case err := <-served:
		return err
	case err := <-side.ended:
		cancel()
		<-served
		return err
	}
}

// passed are the signals that the program gets, too. SIGHUP stays ignored if it is, as by nohup(1).
func passed() []os.Signal {
	list := []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}
	if !signal.Ignored(unix.SIGHUP) {
		list = append(list, unix.SIGHUP)
	}
	return list
}

// command is a program that ends with the thread that starts it.
func command(argv []string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM}
	return cmd
}

// running is a sidecar.
type running struct {
	cmd   *exec.Cmd
	ready *net.UnixConn
	ended chan error // how it has ended; closed then
}

// start starts the sidecar. It is in a process group of its own: what a terminal sends to those in front is for the program.
func start(c *Config) (*running, error) {
	path := filepath.Join(c.Dir, "ready")
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	cmd := command(c.Sidecar)
	cmd.Env = append(os.Environ(), servicemanager.SocketVariable+"="+path)
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ready.Close())
	}
	r := &running{cmd: cmd, ready: ready, ended: make(chan error, 1)}
	go func() {
		defer close(r.ended)
		r.ended <- cmd.Wait()
	}()
	return r, nil
}

// wait waits until the sidecar is ready, or a signal that ends this process has come, which it returns.
func (r *running) wait(signals <-chan os.Signal) (got os.Signal, err error) {
	told := make(chan struct{})
	go r.hear(told)
	for {
		select {
		case <-told:
			return nil, nil
		case <-r.ended:
			return nil, fmt.Errorf("%s: %w", r.cmd.Path, ErrNotReady)
		case got := <-signals:
			if got != unix.SIGUSR1 && got != unix.SIGUSR2 {
				return got, nil
			}
		}
	}
}

// hear closes told when the sidecar says that it is ready. It ends when the socket is closed.
func (r *running) hear(told chan<- struct{}) {
	message := make([]byte, 512)
	for {
		n, err := r.ready.Read(message)
		if err != nil {
			return
		}
		if strings.Contains("\n"+string(message[:n])+"\n", "\n"+string(servicemanager.Ready)+"\n") {
			close(told)
			return
		}
	}
}

// watch passes signals on until the program has ended, and returns its status.
func watch(program *exec.Cmd, side *running, signals <-chan os.Signal, lost func(error)) (status int) {
	ended := make(chan struct{})
	go func() {
		_ = program.Wait() // how it has ended is in its state
		close(ended)
	}()
	sideEnded := side.ended
	for {
		select {
		case got := <-signals:
			_ = program.Process.Signal(got) // one that has ended does not mind
		case err := <-sideEnded:
			sideEnded = nil
			lost(err)
		case <-ended:
			return exitStatus(program.ProcessState.Sys().(syscall.WaitStatus))
		}
	}
}

// exitStatus is how a program has ended as a shell tells it.
func exitStatus(s syscall.WaitStatus) int {
	if s.Signaled() {
		return statusOf(s.Signal())
	}
	return s.ExitStatus()
}

// statusOf is the exit status of a program that a signal has ended; 0 for none.
func statusOf(s os.Signal) int {
	if number, ok := s.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return 0
}

// stop ends the sidecar, and waits until it has ended.
func (r *running) stop() {
	defer func() { _ = r.ready.Close() }()
	_ = r.cmd.Process.Signal(unix.SIGTERM) // one that has ended does not mind
	timer := time.AfterFunc(endPatience, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	for range r.ended {
	}
}
