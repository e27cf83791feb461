package labrun

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Times of programs.
const (
	// endPatience is how long a program may take to end when it is asked to, before it is killed.
	endPatience = 10 * time.Second
	// firstPause and longestPause are how long a program is left alone before it is started again: twice as long each time, from the first
	// one on, until it has run for as long as the longest.
	firstPause, longestPause = time.Second, time.Minute
	// outputPatience is how long what a program has started may go on printing when the program has ended.
	outputPatience = time.Second
)

// Program is one of a lab.
type Program struct {
	Name    string   `json:"name"`
	Words   []string `json:"words"`   // with the program itself
	Restart string   `json:"restart"` // "", "never", "on-failure" or "always"
}

// ProgramStatus is how a program is.
type ProgramStatus struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid,omitempty"`     // 0 if it does not run
	Since   time.Time `json:"since"`             // it runs, or does not
	Ended   string    `json:"ended,omitempty"`   // how it has ended last; "" if it has not
	Started int       `json:"started"`           // how often it was
	Again   bool      `json:"again,omitempty"`   // it is started again soon
	Log     string    `json:"log"`               // path
	Words   []string  `json:"command,omitempty"` // as it was started
}

// running is a program with its life: it is started, and started again as it says, until it is stopped.
type running struct {
	Program
	dir  string // in which it runs
	log  *boundedLog
	tell func(ProgramStatus) // is called whenever its status changes
	quit chan struct{}       // closed to stop it
	done chan struct{}       // closed when it is over, and nothing is started any more

	mu     sync.Mutex
	status ProgramStatus
	stop   sync.Once
}

// start begins the life of a program.
func start(p Program, dir, log string, tell func(ProgramStatus)) (*running, error) {
	l, err := openLog(log)
	if err != nil {
		return nil, err
	}
	r := &running{
		Program: p, dir: dir, log: l, tell: tell, quit: make(chan struct{}), done: make(chan struct{}),
		status: ProgramStatus{Name: p.Name, Since: time.Now(), Log: log, Words: p.Words},
	}
	go r.live()
	return r, nil
}

// live is the life of the program. The kernel ends the program with the thread that has started it, which therefore is this goroutine's alone.
func (r *running) live() {
	runtime.LockOSThread()
	defer close(r.done)
	defer func() { _ = r.log.close() }()
	pause := firstPause
	for {
		began := time.Now()
		state := r.once()
		if time.Since(began) >= longestPause {
			pause = firstPause
		}
		if !r.again(state) || !r.sleep(pause) {
			r.change(func(s *ProgramStatus) { s.Again = false })
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// once runs the program once, and returns how it has ended; nil if it could not be started.
func (r *running) once() *os.ProcessState {
	cmd := exec.Command(r.Words[0], r.Words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = r.dir, r.log, r.log, outputPatience
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		r.change(func(s *ProgramStatus) {
			s.Ended, s.Since, s.Started = err.Error(), time.Now(), s.Started+1
			s.Again = r.Restart == "always" || r.Restart == "on-failure"
		})
		return nil
	}
	r.change(func(s *ProgramStatus) {
		s.PID, s.Since, s.Again, s.Started = cmd.Process.Pid, time.Now(), false, s.Started+1
	})
	over := make(chan struct{})
	go r.end(cmd.Process, over)
	_ = cmd.Wait() // its state tells
	close(over)
	r.change(func(s *ProgramStatus) {
		s.PID, s.Since, s.Ended, s.Again = 0, time.Now(), cmd.ProcessState.String(), r.again(cmd.ProcessState)
	})
	fmt.Fprintf(r.log, "vring lab: %s has ended: %s\n", r.Name, cmd.ProcessState)
	return cmd.ProcessState
}

// end ends a process when the program is to stop. over is closed when the process has ended.
func (r *running) end(process *os.Process, over <-chan struct{}) {
	select {
	case <-over:
		return
	case <-r.quit:
	}
	_ = process.Signal(unix.SIGTERM) // one that has ended does not mind
	timer := time.NewTimer(endPatience)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		_ = process.Kill()
	}
}

// again reports whether the program is started again that has ended so.
func (r *running) again(state *os.ProcessState) bool {
	select {
	case <-r.quit:
		return false
	default:
	}
	failed := state == nil || !state.Success()
	return r.Restart == "always" || r.Restart == "on-failure" && failed
}

// sleep reports whether the program is to be started after a pause.
func (r *running) sleep(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.quit:
		return false
	}
}

func (r *running) change(change func(*ProgramStatus)) {
	r.mu.Lock()
	change(&r.status)
	s := r.status
	r.mu.Unlock()
	r.tell(s)
}

// now is how the program is.
func (r *running) now() ProgramStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// over reports whether the program has ended, and is not started again.
func (r *running) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// askToStop asks the program to end. It does not wait.
func (r *running) askToStop() { r.stop.Do(func() { close(r.quit) }) }

// same reports whether two programs are started in the same way.
func (p *Program) same(other *Program) bool {
	return slices.Equal(p.Words, other.Words) && p.Restart == other.Restart
}
