package daemon

import (
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
	// Rate is how many frames a source sends; 0 sends as many as the guest takes.
	Rate uint64 `option:"rate" unit:"frames per second" fixed:"a measurement keeps its conditions"`
}

// StubMode is what a stub does with frames.
type StubMode string

// The modes.
const (
	StubNull   StubMode = "null"   // drop all frames of the guest
	StubEcho   StubMode = "echo"   // send every frame back to the guest
	StubSource StubMode = "source" // send frames of its own, and drop the guest's
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
		o.guests = append(o.guests, guest{
			name: socket, ports: []netbackend.Port{port},
			counters: []counting.Source{counting.From(port.Counters)}, traffic: stubTraffic,
		})
	}
	return o, nil
}

// countingPort is what all stubs are.
type countingPort interface {
	netbackend.Port
	Counters() stub.Counters
}

func (s *Stub) port() (countingPort, error) {
	switch s.Mode {
	case StubNull:
		return stub.NewNull(), nil
	case StubEcho:
		return stub.NewEcho(), nil
	case StubSource:
		source, err := stub.NewSource(stub.SourceConfig{Size: s.Size, Rate: s.Rate})
		if err != nil {
			return nil, faultf("%s source: %w", optionMode, err)
		}
		return source, nil
	}
	return nil, faultf("%s %q: want null, echo or source", optionMode, string(s.Mode))
}
