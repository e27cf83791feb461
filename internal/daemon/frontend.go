package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/vringnet/vring/internal/framesocket"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/vhostuser"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// FrontEnd is how a front end passes the guest's frames.
type FrontEnd string

// The kinds of front ends.
const (
	FrontEndVhostUser FrontEnd = ""       // it shares the guest's memory
	FrontEndStream    FrontEnd = "stream" // by a stream socket, each with its length before it: QEMU's -netdev stream
	FrontEndVfkit     FrontEnd = "vfkit"  // by datagrams, as vfkit and libkrun do
	FrontEndBess      FrontEnd = "bess"   // by packets of SOCK_SEQPACKET, as User-mode Linux does with transport=bess
)

// vhostUser is the name of FrontEndVhostUser.
const vhostUser = "vhost-user"

// FrontEndNames are the names of all kinds.
func FrontEndNames() []string {
	return []string{vhostUser, string(FrontEndStream), string(FrontEndVfkit), string(FrontEndBess)}
}

// ParseFrontEnd reads the name of a kind.
func ParseFrontEnd(text string) (FrontEnd, error) {
	if kind := FrontEnd(text); text == "" || !kind.known() {
		return "", kind.unknown()
	}
	if text == vhostUser {
		return FrontEndVhostUser, nil
	}
	return FrontEnd(text), nil
}

// known reports whether there is such a kind.
func (f FrontEnd) known() bool { return slices.Contains(FrontEndNames(), f.String()) }

// unknown tells that there is none.
func (f FrontEnd) unknown() *Fault {
	return faultf("%s %q: want %s", optionFrontEnd, string(f), oneOf(FrontEndNames()))
}

// oneOf lists names of which one is wanted.
func oneOf(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// String returns the name.
func (f FrontEnd) String() string { return string(cmp.Or(f, vhostUser)) }

// SharesMemory reports whether the guest's memory is shared. Where it is not, frames come by a socket.
func (f FrontEnd) SharesMemory() bool { return f == FrontEndVhostUser }

// framing is that of a kind that shares no memory.
func (f FrontEnd) framing() framesocket.Framing {
	switch f {
	case FrontEndBess:
		return framesocket.Packets
	case FrontEndVfkit:
		return framesocket.Datagrams
	}
	return framesocket.Stream
}

// checkKinds returns what is wrong with the kinds of front ends.
func (c *Config) checkKinds() error {
	if kind := c.FrontEnds.Kind; !kind.known() {
		return kind.unknown()
	}
	for _, p := range c.parts() {
		switch f := p.frontEnd; {
		case !f.known():
			return f.unknown()
		case (f == FrontEndBess || f == FrontEndVfkit) && c.FrontEnds.Client:
			return faultf("%s and %s %s exclude each other: it is the front end that connects", optionClient, optionFrontEnd, f)
		case !f.serves(p):
			return f.queuesFault(p)
		}
	}
	return nil
}

// serves reports whether guests of a network can have such front ends.
func (f FrontEnd) serves(p part) bool { return f.SharesMemory() || p.queues() <= 1 }

// queuesFault is why they cannot.
func (f FrontEnd) queuesFault(p part) *Fault {
	return faultf("%s %d and %s %s exclude each other: there is one queue pair without vhost-user", optionQueues, p.queues(), optionFrontEnd, f)
}

// server serves the front ends of a guest.
type server interface {
	// Serve serves them until ctx ends, or none will come any more.
	Serve(ctx context.Context) error
	// Stage returns how far the front end that is served has come. Anybody may call it.
	Stage() vhostuser.Stage
}

// newServer opens where the front ends of a guest come from.
func (d *Daemon) newServer(s *served, log *slog.Logger, limits guestmem.Limits, listen func(path string) (int, error)) (server, error) {
	if s.uplink != nil {
		return &uplinkServer{openUplink: s.uplink, device: s.device, log: log}, nil
	}
	from := &d.config.FrontEnds
	fd := -1
	if from.FD != nil {
		fd = *from.FD
	}
	staged := func(now vhostuser.Stage) { d.tell(StageChanged{s.label, now}) }
	if s.frontEnd = s.group.frontEnd; s.frontEnd.SharesMemory() {
		return vhostuser.NewServer(vhostuser.Config{
			SocketPath: s.socket, Client: from.Client, SocketMode: from.SocketMode, SocketGroup: from.group(), FD: fd, OneOff: from.OneOff,
			Dial: d.dial, KeepFile: d.broker.Removes, Listen: listen, Device: s.device, Log: log, Memory: limits, QueuesHint: d.program.QueuesHint,
			Staged: staged,
		})
	}
	var meet func(path string) error
	if s.frontEnd == FrontEndVfkit && s.socket != "" && d.config.Sandbox != sandbox.Off {
		listen, meet = d.broker.Datagrams, d.broker.Meet
	}
	one, err := framesocket.NewServer(framesocket.Config{
		Framing: s.frontEnd.framing(), SocketPath: s.socket, Client: from.Client, SocketMode: from.SocketMode, SocketGroup: from.group(), FD: fd,
		OneOff: from.OneOff, Dial: d.dial, KeepFile: d.broker.Removes, Listen: listen, Meet: meet, Device: s.device, Log: log,
		Staged: func(connected bool) { staged(socketStage(connected)) },
	})
	return socketServer{one}, err
}

// socketServer is a server of front ends that share no memory.
type socketServer struct{ *framesocket.Server }

// Stage implements server.
func (s socketServer) Stage() vhostuser.Stage { return socketStage(s.Connected()) }

// socketStage is how far a front end has come that shares no memory: nobody sees whether its guest has a driver.
func socketStage(connected bool) vhostuser.Stage {
	if connected {
		return vhostuser.DriverUp
	}
	return vhostuser.NoFrontEnd
}
