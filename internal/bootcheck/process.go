package bootcheck

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a program that was started, with all that it starts. It ends with this process.
type process struct {
	cmd     *exec.Cmd
	console *console
	exited  chan struct{}
}

// endWait is how long a program may take to end when it is asked to.
const endWait = 10 * time.Second

// start starts a program whose sockets, if it chooses their places itself, are in dir.
func start(dir string, command []string) (*process, error) {
	p := &process{cmd: exec.Command(command[0], command[1:]...), console: newConsole(), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
	p.cmd.Stdout, p.cmd.Stderr = p.console, p.console
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // why it ended is on the console
		close(p.exited)
	}()
	return p, nil
}

// end ends the program and waits for that.
func (p *process) end() {
	_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(endWait):
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
		<-p.exited
	}
}

// console keeps the end of what is printed, and passes on what the guest says in it. It is for one machine.
type console struct {
	states chan string

	mutex sync.Mutex
	line  []byte
	last  []string
}

// consoleLines are how many lines are kept.
const consoleLines = 30

func newConsole() *console { return &console{states: make(chan string, 8)} }

// Write never fails. What is longer than a line may be is cut.
func (c *console) Write(p []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for line := range bytes.Lines(p) {
		c.line = append(c.line, line[:min(len(line), lineLimit)]...)
		if bytes.HasSuffix(line, []byte("\n")) || len(c.line) > lineLimit {
			c.keep(strings.TrimSpace(string(c.line)))
			c.line = c.line[:0]
		}
	}
	return len(p), nil
}

func (c *console) keep(line string) {
	if c.last = append(c.last, line); len(c.last) > consoleLines {
		c.last = slices.Delete(c.last, 0, 1)
	}
	if _, state, found := strings.Cut(line, prefix); found {
		select {
		case c.states <- state:
		default: // a guest that says the same again and again
		}
	}
}

func (c *console) tail() string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return strings.Join(append(slices.Clone(c.last), string(c.line)), "\n")
}
