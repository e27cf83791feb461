package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// killWait bounds the wait for a process that was killed.
const killWait = 10 * time.Second

// Process is a program that was started.
type Process struct {
	name string
	cmd  *exec.Cmd
	out  *Tail
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; valid once done is closed
}

// Options change how a program is started.
type Options struct {
	// Thread, if set, runs on the operating system thread that then starts the program, and is not shared with anything
	// else: what it sets for the thread, a seccomp filter for example, the program inherits.
	Thread func() error
	// Output also gets standard output, if set. Writes must not block.
	Output io.Writer
}

// Start runs a program in a process group of its own. The group is killed when ctx ends, and the program when this
// process dies. Standard error, and standard output unless cmd says otherwise, are kept.
func Start(ctx context.Context, cmd *exec.Cmd, opt Options) (*Process, error) {
	p := &Process{name: filepath.Base(cmd.Path), cmd: cmd, out: &Tail{}, done: make(chan struct{})}
	cmd.Stdout = p.out
	if opt.Output != nil {
		cmd.Stdout = io.MultiWriter(p.out, opt.Output)
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// A pipe that a grandchild keeps open must not hold up Wait.
	cmd.WaitDelay = time.Second

	started := make(chan error)
	go p.run(opt.Thread, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	stop := context.AfterFunc(ctx, func() { p.killGroup() })
	go func() {
		<-p.done
		stop()
	}()
	return p, nil
}

// StartInteractive is Start for a program that is talked to: in is its standard input, out its standard output, which must
// be read to its end. Reading ends when the program does.
func StartInteractive(ctx context.Context, cmd *exec.Cmd, opt Options) (p *Process, in io.WriteCloser, out io.Reader, err error) {
	in, err = cmd.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, writer := io.Pipe()
	if opt.Output != nil {
		out = io.TeeReader(out, opt.Output)
	}
	opt.Output = writer
	p, err = Start(ctx, cmd, opt)
	if err != nil {
		return nil, nil, nil, errors.Join(err, in.Close())
	}
	go func() {
		<-p.Done()
		writer.Close()
	}()
	return p, in, out, nil
}

// run starts the program and waits for its end, all on one thread: Pdeathsig acts when the thread ends that started the
// program. A thread that was changed is not given back to the scheduler but ends with the goroutine.
func (p *Process) run(thread func() error, started chan<- error) {
	runtime.LockOSThread()
	if thread == nil {
		defer runtime.UnlockOSThread()
	} else if err := thread(); err != nil {
		started <- err
		return
	}
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// PID returns the process identifier.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output returns the end of what the program has printed.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal to the program, not to its children.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Wait waits for the program to end by itself and returns how it did. After the given time it returns an error.
func (p *Process) Wait(timeout time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("%s (pid %d) has not ended after %v", p.name, p.PID(), timeout)
	}
}

// Kill ends the program and its children with SIGKILL and waits for that. It may be called more than once.
func (p *Process) Kill() error {
	p.killGroup()
	err := p.Wait(killWait)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return err
}

// killGroup ends the process group, unless its leader is gone: its identifier may then be someone else's.
func (p *Process) killGroup() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
}
