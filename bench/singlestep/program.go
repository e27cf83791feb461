package singlestep

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mark is the signal that a program sends to its main thread before and behind what is to be counted. It is not delivered.
const Mark = unix.SIGUSR1

// maxSteps is when counting is given up: the program has not sent the second signal.
const maxSteps = 20_000_000

// Next returns the instructions between the program's next two signals. If at is not nil, it is told where each of them
// lies, which makes a step half as fast again.
type Next func(at func(pc uint64)) (int, error)

// ErrStuck is that the thread waited for one of those that stand still. Go's scheduler may have decided so before they were stopped.
// Nothing was counted; the program has gone on to its second signal.
var ErrStuck = errors.New("the thread waits for another one")

const (
	nudge    = unix.SIGUSR2    // ends the wait of a thread that makes no step; it is not delivered
	patience = 2 * time.Second // a step takes microseconds, and longer on a busy machine
)

// Trace starts a program and calls use with its Next. When use is done, the program must come to its end by itself, and without
// an error. stdin, stdout and stderr of the program are files.
func Trace(argv, env []string, files [3]*os.File, use func(Next) error) error {
	done := make(chan error)
	go func() {
		// The kernel takes requests only from the thread that has started the program. It ends with this goroutine.
		runtime.LockOSThread()
		done <- traceByThisThread(argv, env, files, use)
	}()
	return <-done
}

// traceByThisThread is Trace. It binds the thread, and with it the program, to one processor: of two threads that take
// turns neither then waits for the other's processor to wake up.
func traceByThisThread(argv, env []string, files [3]*os.File, use func(Next) error) error {
	if err := bindToOneProcessor(); err != nil {
		return err
	}
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Env: env, Files: files[:], Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return fmt.Errorf("start %s under ptrace: %w", argv[0], err)
	}
	defer process.Release()
	p := program{pid: process.Pid}
	err = p.begin()
	if err == nil {
		err = use(p.next)
	}
	if err == nil {
		err = p.end()
	}
	return errors.Join(err, p.kill())
}

// bindToOneProcessor binds the calling thread to the last processor that it may use.
func bindToOneProcessor() error {
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	for cpu, left := 0, may.Count(); left > 0; cpu++ {
		if may.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
			left--
		}
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &one))
}

// program is a process whose main thread is traced.
type program struct {
	pid   int
	gone  bool
	steps atomic.Uint64 // that were made
}

// begin takes the stop behind execve, see ptrace(2).
func (p *program) begin() error {
	if _, err := p.wait(p.pid); err != nil {
		return err
	}
	return os.NewSyscallError("PTRACE_SETOPTIONS", unix.PtraceSetOptions(p.pid, unix.PTRACE_O_EXITKILL))
}

// next lets the program run up to its next signal, and steps to the one after it.
func (p *program) next(at func(pc uint64)) (int, error) {
	if err := p.run(); err != nil {
		return 0, err
	}
	if p.gone {
		return 0, errors.New("the program has ended")
	}
	return p.between(at)
}

// end lets the program run to its end.
func (p *program) end() error {
	if err := p.run(); err != nil {
		return err
	}
	if !p.gone {
		return errors.New("the program has sent a signal that nobody asked for")
	}
	return nil
}

// run lets the program run up to its next signal, or to its end. It gets all other signals.
func (p *program) run() error {
	for signal := unix.Signal(0); ; {
		err := unix.PtraceCont(p.pid, int(signal))
		if err != nil {
			return os.NewSyscallError("PTRACE_CONT", err)
		}
		if signal, err = p.wait(p.pid); err != nil || p.gone || signal == Mark {
			return err
		}
		if signal == nudge {
			signal = 0 // it came too late
		}
	}
}

// between steps from one signal to the next, while all other threads stand still.
func (p *program) between(at func(pc uint64)) (int, error) {
	others, err := holdOthers(p.pid)
	if err != nil {
		return 0, errors.Join(err, others.release())
	}
	lower := raise(p.pid)
	n, err := p.step(at)
	lower()
	err = errors.Join(err, others.release())
	if errors.Is(err, ErrStuck) {
		err = errors.Join(err, p.run())
	}
	return n, err
}

// step counts steps up to the signal. Signals that come meanwhile are those by which Go preempts a thread: they are dropped.
func (p *program) step(at func(pc uint64)) (int, error) {
	defer p.watch()()
	for n := 0; n < maxSteps; {
		if err := p.tell(at); err != nil {
			return 0, err
		}
		if err := unix.PtraceSingleStep(p.pid); err != nil {
			return 0, os.NewSyscallError("PTRACE_SINGLESTEP", err)
		}
		signal, err := p.wait(p.pid)
		switch {
		case err != nil:
			return 0, err
		case p.gone:
			return 0, fmt.Errorf("the program has ended between its signals")
		case signal == Mark:
			return n, nil
		case signal == unix.SIGTRAP:
			n++
			p.steps.Add(1)
		case signal == nudge:
			return 0, ErrStuck
		case signal == unix.SIGURG:
		default:
			return 0, fmt.Errorf("%v came between the program's signals", signal)
		}
	}
	return 0, fmt.Errorf("no second signal within %d instructions", maxSteps)
}

// watch looks whether steps are made until stop is called. It nudges the thread if there was none for a while.
func (p *program) watch() (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		look := time.NewTicker(patience)
		defer look.Stop()
		for before := p.steps.Load(); ; before = p.steps.Load() {
			select {
			case <-over:
				return
			case <-look.C:
				if p.steps.Load() == before {
					_ = unix.Tgkill(p.pid, p.pid, nudge) // it may have ended just now
				}
			}
		}
	}()
	return func() { close(over); <-ended }
}

// tell tells at where the next instruction lies.
func (p *program) tell(at func(pc uint64)) error {
	if at == nil {
		return nil
	}
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(p.pid, &regs); err != nil {
		return os.NewSyscallError("PTRACE_GETREGS", err)
	}
	at(regs.PC())
	return nil
}

// wait waits until the thread stops, and returns the signal that it has stopped for.
func (p *program) wait(thread int) (unix.Signal, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(thread, &status, unix.WALL, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("wait4", err)
		}
	}
	switch {
	case status.Stopped():
		return status.StopSignal(), nil
	case status.Exited() && status.ExitStatus() == 0:
		p.gone = true
		return 0, nil
	case status.Exited():
		p.gone = true
		return 0, fmt.Errorf("the program has ended with status %d", status.ExitStatus())
	}
	p.gone = true
	return 0, fmt.Errorf("the program was ended by %v", status.Signal())
}

// kill ends the program if it has not ended by itself.
func (p *program) kill() error {
	if p.gone {
		return nil
	}
	if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
		return os.NewSyscallError("kill", err)
	}
	for !p.gone {
		if _, err := p.wait(p.pid); err != nil {
			return nil // it was killed, which is no news
		}
	}
	return nil
}
