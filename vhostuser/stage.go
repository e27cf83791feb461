package vhostuser

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

// Stage returns how far the front end that is served has come. Anybody may call it.
func (s *Server) Stage() Stage { return Stage(s.stage.Load()) }

// setStage follows the front end that is served.
func (s *Server) setStage(now Stage) {
	s.stage.Store(int32(now))
	s.cfg.Staged(now)
}
