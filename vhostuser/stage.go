package vhostuser

import "sync"

// Stage is how far a front end and its guest have come.
type Stage int32

// The stages, in order.
const (
	NoFrontEnd Stage = iota // nobody is connected
	Connected               // a front end is, and its guest has no driver that is up
	DriverUp                // a ring runs and is enabled
)

// String returns the stage in a word.
func (s Stage) String() string {
	return [...]string{NoFrontEnd: "waiting", Connected: "connected", DriverUp: "up"}[s]
}

// Stage returns how far the front end has come that has come farthest. Anybody may call it.
func (s *Server) Stage() Stage { return s.stages.now() }

// stages follows the front ends that are connected.
type stages struct {
	mu     *sync.Mutex
	of     map[*session]Stage
	staged func(Stage)
	told   *Stage
}

func newStages(staged func(Stage)) stages {
	return stages{mu: new(sync.Mutex), of: map[*session]Stage{}, staged: staged, told: new(Stage)}
}

// now returns the stage of the one that has come farthest.
func (t *stages) now() Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.farthest()
}

func (t *stages) farthest() Stage {
	far := NoFrontEnd
	for _, s := range t.of {
		far = max(far, s)
	}
	return far
}

// set notes the stage of a session, and tells if another one is the farthest now. A session that has ended is forgotten.
func (t *stages) set(s *session, now Stage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[s] = now; now == NoFrontEnd {
		delete(t.of, s)
	}
	if far := t.farthest(); far != *t.told {
		*t.told = far
		t.staged(far)
	}
}
