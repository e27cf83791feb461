package lab

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"time"

	"github.com/vringnet/vring/bench/measure"
)

// Direction tells which end of a stream sends.
type Direction string

// The directions of a stream. On the loopback they are the same.
const (
	Out Direction = "guest→host" // through the back end's way to the host
	In  Direction = "host→guest" // through a forwarded port
)

// Subject is something to measure.
type Subject interface {
	// Name is short and unique in a run.
	Name() string
	// Start makes it ready for streams. The path ends with ctx at the latest.
	Start(ctx context.Context, mtu int) (Path, error)
}

// Path carries streams.
type Path interface {
	// Transfer sends one stream for about the given time and measures it. An error means that the stream has broken, or
	// that bytes were lost; the path is of no use then.
	Transfer(ctx context.Context, dir Direction, d time.Duration) (measure.Sample, error)
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
