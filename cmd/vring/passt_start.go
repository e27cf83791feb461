package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/passtopt"
)

// passtReady is set in the environment of the process that is to serve in the background: the number of a pipe, to which it writes when it
// is ready.
const passtReady = "VRING_PASST_READY"

// passtStartup is passt's way to start: who has started it waits until the first process ends, which it does when the guest can be served by the
// other one, and reads that one's number in a file.
type passtStartup struct {
	isChild bool     // serves in the background
	ready   *os.File // of a child
	pid     *os.File // is to get the number of this process; nil for none
	stderr  *os.File // the first one, where the log goes to a file
	log     *os.File
	logged  int64 // bytes of the log at the start
}

// begin takes what this process was started with, and closes descriptors that are of no use: who started it may wait for their end.
func (s *passtStartup) begin(o *passtopt.Options) error {
	if text, is := os.LookupEnv(passtReady); is {
		fd, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%s is set by vring itself: %w", passtReady, err)
		}
		unix.CloseOnExec(fd)
		s.isChild, s.ready = true, os.NewFile(uintptr(fd), "ready")
		return os.Unsetenv(passtReady)
	}
	return closeLeaked(o.FD)
}

// closeLeaked closes all descriptors that this process has inherited but the standard ones and one more. Those that the program has opened
// itself are closed when another one is started (FD_CLOEXEC), which tells them from others.
func closeLeaked(but *int) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil // without /proc nothing is known of them
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= unix.Stderr || but != nil && fd == *but {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	if but == nil {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(*but), unix.F_GETFD, 0); err != nil {
		return passtFault("Invalid --fd: %d is not open", *but)
	}
	return nil
}

// inBackground starts this program again, which then serves, and waits until it is ready.
func (s *passtStartup) inBackground(words []string, o *passtopt.Options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ready, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	output, childOutput, err := os.Pipe()
	if err != nil {
		return errors.Join(err, child.Close())
	}
	words = slices.Concat([]string{passtCommand, "--foreground", "--socket", o.Socket}, words)
	if o.FD != nil {
		words = slices.Delete(words, 2, 4)
	}
	cmd := exec.Command(self, words...)
	cmd.Env, cmd.Stderr = append(os.Environ(), calledVring+"=1"), childOutput
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	passFD(cmd, o.FD)
	cmd.ExtraFiles = append(cmd.ExtraFiles, child)
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", passtReady, unix.Stderr+len(cmd.ExtraFiles)))
	err = cmd.Start()
	_, _ = child.Close(), childOutput.Close()
	if err != nil {
		return err
	}
	told := copyOutput(output, os.Stderr)
	if n, _ := ready.Read(make([]byte, 1)); n == 1 {
		told.drain()
		return nil
	}
	_ = cmd.Wait() // it has told why
	told.drain()
	return toldError{exitError}
}

// passFD lets a program have a descriptor under its number.
func passFD(cmd *exec.Cmd, fd *int) {
	switch {
	case fd == nil:
	case *fd == 0:
		cmd.Stdin = os.Stdin
	default:
		for len(cmd.ExtraFiles)+unix.Stderr+1 < *fd {
			cmd.ExtraFiles = append(cmd.ExtraFiles, nil)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(*fd), "front end"))
	}
}

// copying is what another process prints, which is printed here.
type copying struct {
	from *os.File
	mu   sync.Mutex // held while something is on its way
}

func copyOutput(from *os.File, to io.Writer) *copying {
	c := &copying{from: from}
	go func() {
		for buf := make([]byte, 16<<10); ; {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(from.Fd()), Events: unix.POLLIN}}, -1)
			c.mu.Lock()
			n, err := from.Read(buf)
			_, _ = to.Write(buf[:n])
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

// drain waits until all is printed that was there when it was called.
func (c *copying) drain() {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.mu.Lock()
		left, err := unix.IoctlGetInt(int(c.from.Fd()), unix.TIOCINQ)
		c.mu.Unlock()
		if left == 0 || err != nil {
			return
		}
	}
}

// openFiles opens the files that the process needs which serves: it may not be able to later.
func (s *passtStartup) openFiles(o *passtopt.Options) (err error) {
	const ownerOnly = 0o600
	if o.PID != "" {
		if s.pid, err = os.OpenFile(o.PID, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, ownerOnly); err != nil {
			return passtFault("Couldn't open PID file %s: %v", o.PID, errors.Unwrap(err))
		}
	}
	if o.LogFile == "" {
		return nil
	}
	return s.openLog(o.LogFile, o.LogSize)
}

// usualLogSize is what a log has at most when it is opened: passt's own bound.
const usualLogSize = 1 << 20

// openLog lets all output go to a file. One that is too long is begun anew.
func (s *passtStartup) openLog(path string, most uint64) error {
	const ownerOnly = 0o600
	log, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, ownerOnly)
	if err != nil {
		return passtFault("Couldn't open log file %s: %v", path, errors.Unwrap(err))
	}
	if most == 0 {
		most = usualLogSize
	}
	info, err := log.Stat()
	if err == nil && uint64(info.Size()) > most {
		err = log.Truncate(0)
		info, _ = log.Stat()
	}
	if err != nil {
		return err
	}
	s.log, s.logged = log, info.Size()
	kept, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return err
	}
	s.stderr = os.NewFile(uintptr(kept), "stderr")
	return unix.Dup3(int(log.Fd()), unix.Stderr, 0)
}

// copyFailure prints what has gone to the log file, where a person looks for why nothing is served.
func (s *passtStartup) copyFailure() {
	if s.stderr == nil {
		return
	}
	const most = 4 << 10
	_, _ = io.Copy(s.stderr, io.NewSectionReader(s.log, s.logged, most))
}

// isReady tells who has started the program that the guest can be served.
func (s *passtStartup) isReady() {
	if s.pid != nil {
		_, _ = fmt.Fprintf(s.pid, "%d\n", os.Getpid()) // who reads none tells that
		_ = s.pid.Close()
	}
	if s.ready != nil {
		_, _ = s.ready.Write([]byte{1})
		_ = s.ready.Close()
	}
	if s.stderr != nil {
		_ = s.stderr.Close()
		s.stderr = nil
	}
}

// chooseSocket gives the options a socket if none was given: the first of passt's own paths at which nobody listens.
func (p *passt) chooseSocket() error {
	const most = 100
	if p.options.Socket != "" || p.options.FD != nil {
		return nil
	}
	for i := 1; i < most; i++ {
		path := fmt.Sprintf("/tmp/passt_%d.socket", i)
		conn, err := net.Dial("unix", path)
		if err != nil {
			p.options.Socket = path
			return nil
		}
		_ = conn.Close()
	}
	return errors.New("UNIX socket bind: all paths are in use; --socket chooses another one")
}

// passtFault is a fault in passt's words.
func passtFault(format string, args ...any) error {
	return &passtopt.Fault{Text: fmt.Sprintf(format, args...)}
}
