package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sys/unix"
)

// Wall is one of the walls, and how far it stands.
type Wall struct {
	Name  string `json:"name"`
	Keeps string `json:"keeps"`           // what it keeps from this process; empty if it does not stand
	Lacks string `json:"lacks,omitempty"` // what it does not keep, and why; empty if nothing
	// Weak is that the sandbox is less than what is promised: what is lacking is kept by no other wall.
	Weak bool `json:"weak"`
}

// missing is the wall where it does not stand.
func (w Wall) missing(reason string) Wall {
	w.Keeps, w.Lacks, w.Weak = "", reason, true
	return w
}

func (w Wall) String() string {
	switch {
	case w.Lacks == "":
		return w.Name + ": " + w.Keeps
	case w.Keeps == "":
		return w.Name + ": none, " + w.Lacks
	}
	return w.Name + ": " + w.Keeps + "; not " + w.Lacks
}

// State is how the sandbox stands, wall by wall. It is empty where there is none.
type State []Wall

// String is the state in a line.
func (s State) String() string {
	if len(s) == 0 {
		return "off"
	}
	var walls []string
	for _, w := range s {
		walls = append(walls, w.String())
	}
	return strings.Join(walls, " | ")
}

// weak returns the error that the sandbox is less than what is promised, nil if it is not.
func (s State) weak() error {
	var errs []error
	for _, w := range s {
		if w.Weak {
			errs = append(errs, fmt.Errorf("%s: %s", w.Name, w.Lacks))
		}
	}
	return errors.Join(errs...)
}

// log warns of what is less than promised. The rest is for those who look for it.
func (s State) log(log *slog.Logger) {
	for _, w := range s {
		switch {
		case w.Weak:
			log.Warn("sandbox: weaker than it should be; --sandbox=strict makes this an error", "wall", w.Name, "reason", w.Lacks)
		case w.Lacks != "":
			log.Debug("sandbox: other walls keep what this one does not", "wall", w.Name, "lacks", w.Lacks)
		}
	}
}

// whyMissing tells whether an error says that a wall cannot be had here, and why.
func whyMissing(err error) (reason string, missing bool) {
	switch {
	case errors.Is(err, unix.ENOSYS):
		return fmt.Sprintf("this kernel has none (%v)", unix.ENOSYS), true
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Sprintf("this kernel has it, but it was switched off at boot (%v)", unix.EOPNOTSUPP), true
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Sprintf("it is forbidden by what confines this process, such as a container's filter (%v)", unix.EPERM), true
	}
	return "", false
}
