package daemon

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
)

// Stub is a test back end instead of a network.
type Stub struct {
	// Mode is what becomes of frames.
	Mode StubMode `option:"mode" default:"null" fixed:"a guest has one Port as long as it is served"`
	// Size is the length of each frame of a source.
	Size int `option:"size" unit:"bytes" default:"60" fixed:"a measurement keeps its conditions"`
	// Sizes are the lengths of a source's frames in turn, in the place of Size, if they are not empty; see stub.ParseSizes.
	Sizes string `option:"sizes" fixed:"a measurement keeps its conditions"`
	// Rate is how many frames a source sends; 0 sends as many as the guest takes.
	Rate uint64 `option:"rate" unit:"frames per second" fixed:"a measurement keeps its conditions"`
}

// StubMode is what a stub does with frames.
type StubMode string

// SizesForm is what Stub.Sizes can be.
const SizesForm = stub.SizesForm

// The modes.
const (
	StubNull StubMode = "null" // drop all frames of the guest
	StubEcho StubMode = "echo" // send every frame back to the guest
	// StubReflect is StubEcho with the addresses of each frame exchanged.
	StubReflect StubMode = "reflect"
	StubSink    StubMode = "sink"   // check the frames of sources that come from the guest, and drop all
	StubSource  StubMode = "source" // send frames of its own, and check those that come back
)

// DefaultStub drops all.
func DefaultStub() Stub { return Stub{Mode: StubNull, Size: netbackend.MinFrame} }

func (s *Stub) check(p places) (plan, error) {
	_, err := s.port()
	return &stubPlan{s, p.sockets}, err
}

// stubPlan is a stub for each guest.
type stubPlan struct {
	*Stub
	sockets []string // of the guests
}

func (s *stubPlan) names() []string { return s.sockets }

// open makes a stub for each guest.
func (s *stubPlan) open(*Daemon) (o opened, err error) {
	for _, socket := range s.sockets {
		port, err := s.port()
		if err != nil {
			return opened{}, err
		}
		g := guest{
			name: socket, ports: []netbackend.Port{port},
			counters: []counting.Source{counting.From(port.Counters)}, traffic: stubTraffic,
		}
		if tests, ok := port.(testingPort); ok {
			g.latency = tests.Latency
		}
		o.guests = append(o.guests, g)
	}
	return o, nil
}

// countingPort is what all stubs are.
type countingPort interface {
	netbackend.Port
	Counters() stub.Counters
}

// testingPort is a stub that checks frames of sources.
type testingPort interface {
	Latency(parts ...float64) (times []time.Duration, longest time.Duration)
}

func (s *Stub) port() (countingPort, error) {
	switch s.Mode {
	case StubNull:
		return stub.NewNull(), nil
	case StubEcho:
		return stub.NewEcho(), nil
	case StubReflect:
		return stub.NewReflector(), nil
	case StubSink:
		return stub.NewSink(hostClock), nil
	case StubSource:
		return s.source()
	}
	return nil, faultf("%s %q: want null, echo, reflect, sink or source", optionMode, string(s.Mode))
}

// hostClock returns the time that all processes of the host know, in nanoseconds.
func hostClock() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // which there is
	return t.Nano()
}

func (s *Stub) source() (countingPort, error) {
	c := stub.SourceConfig{Size: s.Size, Rate: s.Rate, Clock: hostClock}
	if s.Sizes != "" {
		sizes, err := stub.ParseSizes(s.Sizes)
		if err != nil {
			return nil, faultf("%s %w", optionSizes, err)
		}
		c.Sizes = sizes
	}
	source, err := stub.NewSource(c)
	if err != nil {
		return nil, faultf("%s source: %w", optionMode, err)
	}
	return source, nil
}
