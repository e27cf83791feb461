package daemon

import (
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/vhostuser"
)

// Event is something that happens to a daemon and that users may learn of: one of the types below. Events of several guests
// come on several goroutines at once.
type Event interface{ event() }

type (
	// ManagerUnreachable is that the service manager cannot be told that the daemon is ready. Guests are served.
	ManagerUnreachable struct{ Err error }
	// RunsAsRoot is that guests are served by root, and why.
	RunsAsRoot struct{ Reason string }
	// Ready is that the front end of a guest may come.
	Ready struct {
		Socket string // its path, "" for one that was inherited
		FD     int    // the number of that
	}
	// Notice is what a guest's network says of itself.
	Notice struct {
		Guest string // its name, "" for the only one
		netbackend.Notice
	}
	// StageChanged is that a guest's front end has come or gone, or its driver. The guest decides how often.
	StageChanged struct {
		Guest string // its name, "" for the only one
		Stage vhostuser.Stage
	}
	// GuestAdded is that a guest was added while others were served. Its front end may come.
	GuestAdded struct{ Guest, Socket string }
	// GuestRemoved is that a guest was removed while others were served. What it had is closed.
	GuestRemoved struct{ Guest string }
	// GuestStopped is that a guest is not served any more, though it should be.
	GuestStopped struct {
		Guest string // its name, "" for the only one
		Err   error
	}
	// Counted is what was counted for a queue pair until it was closed.
	Counted struct {
		Guest   string // its name, "" for the only one
		Pair    int    // of Pairs
		Pairs   int
		Uptime  time.Duration
		Report  Report // without flows
		Dropped uint64 // frames on rings that were disabled, told with the first queue pair
		Lost    uint64 // notices that were left out
	}
	// Traffic is what has passed lately for a guest whose network is metered. There is one each second in which any has.
	Traffic struct {
		Guest string // its name
		Only  bool   // there is no other guest
		Rates Rates
	}
	// Tested is what has become of the frames of sources that have come to a stub which checks them, since the guest is served. There is
	// one each second in which any have come, and one when the guest is served no more.
	Tested struct {
		Guest string // its name
		Only  bool   // there is no other guest
		Last  bool   // no other one follows
		Test  Test
	}
	// BrokerEnded is that the broker has ended too early: what it is for is not done any more.
	BrokerEnded struct{ Duties broker.Duties }
	// ControlMissing is why there is no control socket where there would be one by default. Guests are served.
	ControlMissing struct{ Err error }
	// ResolversUnreadable is why the host's resolvers are not known. It is told once for each reason.
	ResolversUnreadable struct{ Reason string }
	// AuditNotReopened is why the audit log goes on in the file of before, wherever that is now.
	AuditNotReopened struct {
		Path string
		Err  error
	}
	// AuditTrouble is why the audit log cannot be written, or, without Err, that it can be again. It is told once for each.
	AuditTrouble struct {
		Path string
		Err  error
	}
	// Learned is that what guests did was written as rules, or why not.
	Learned struct {
		Path  string
		Rules int // in the file, or to be
		Err   error
	}
	// DrainChanged is that nothing new may begin, or that it may again.
	DrainChanged struct {
		Draining bool
		Until    time.Time // when the daemon ends all the same; zero for never
	}
	// Stopping is that the daemon was told to end, and begins to.
	Stopping struct{}
)

func (ManagerUnreachable) event()  {}
func (RunsAsRoot) event()          {}
func (Ready) event()               {}
func (Notice) event()              {}
func (StageChanged) event()        {}
func (GuestAdded) event()          {}
func (GuestRemoved) event()        {}
func (GuestStopped) event()        {}
func (Counted) event()             {}
func (Traffic) event()             {}
func (Tested) event()              {}
func (BrokerEnded) event()         {}
func (ControlMissing) event()      {}
func (ResolversUnreadable) event() {}
func (AuditNotReopened) event()    {}
func (AuditTrouble) event()        {}
func (Learned) event()             {}
func (DrainChanged) event()        {}
func (Stopping) event()            {}
