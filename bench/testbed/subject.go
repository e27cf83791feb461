package testbed

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/traffic"
)

// Direction tells where the client is, which is the end that connects, and sends or asks.
type Direction string

// The directions of traffic. On the loopback they are the same but for the programs.
const (
	Out Direction = "guest→host" // through the back end's way to the host
	In  Direction = "host→guest" // through a forwarded port
)

// Subject is something to measure: a guest on a front end, behind a back end.
type Subject struct {
	FrontEnd FrontEnd
	BackEnd  BackEnd
}

// Start makes a subject ready for traffic. The path ends with ctx at the latest.
func (s Subject) Start(ctx context.Context, mtu int) (Path, error) { return startPath(ctx, s, mtu) }

// Guest names the front end; subjects are compared with those that have the same.
func (s Subject) Guest() string { return s.FrontEnd.Name() }

// Name names the back end. Guest and Name are unique in a run.
func (s Subject) Name() string { return s.BackEnd.Name() }

// Possible tells whether the front end can have the back end at all. What is possible may still not be installed.
func (s Subject) Possible() bool {
	_, isUML := s.FrontEnd.(UML)
	return !isUML || s.BackEnd.VhostUser()
}

// IsPeer tells whether the back end is somebody else's, whose faults are figures, not faults of the run.
func (s Subject) IsPeer() bool {
	_, own := s.BackEnd.(Vring)
	return !own
}

// Path carries traffic.
type Path interface {
	// Run sends traffic once and measures it. An error means that it has broken, or that something was lost that must not
	// be; the path is of no use then.
	Run(ctx context.Context, plan traffic.Plan, dir Direction) (measure.Sample, error)
	// Version says what was really running, for the record.
	Version() string
	// Close ends all processes of the path.
	Close() error
}

// ErrUnsuitable is what Subject.Start fails with if the installed version lacks what the benchmark needs.
var ErrUnsuitable = errors.New("the installed version cannot do this")

// NotInstalled tells whether an error of Subject.Start means that a program is missing, or too old.
func NotInstalled(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrUnsuitable)
}
