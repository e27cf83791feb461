package namerelay

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/namejudge"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Config is what a Relay uses of its queue pair. All functions are called on its thread, within calls of the Relay's methods. None may
// call the Relay.
type Config struct {
	Guest *Guest
	// Sockets is how many sockets the guest may have in all. Queries leave half of them to flows, though the guest's quota has more.
	Sockets func() int
	// Open connects a socket for datagrams to a resolver, if it is asked by UDP, and else opens an eventfd. Its events name gen and index to Event.
	// ErrNoRoom tells that there is no room for it, any other error that the resolver cannot be reached.
	Open func(to netip.AddrPort, by dns.Transport, gen, index uint32) (fd int, err error)
	// Close closes a socket of Open.
	Close func(fd int)
	// Reply sends the guest an answer by UDP, and reports whether there was room for it.
	Reply func(to *Client, answer []byte) bool
	// Wake is told that something has come on a connection. Its flow may be another queue pair's.
	Wake func(s *Stream)
	// Stale is told that a query was answered by an answer that is over, since no resolver has given one.
	Stale func()
	// Left is told that a resolver does not answer, and others are asked before it from now on. Back is told that it answers again.
	Left func(to dns.Server, by dns.Transport)
	Back func(to dns.Server)
	// Buffer is where messages of resolvers are read, as long as the longest datagram. It is used during a call only.
	Buffer []byte
	// Judge says what may be asked and answered under rules by name; nil is that nobody does.
	Judge *namejudge.Judge
}

// Client is who has asked.
type Client struct {
	Key    flowtable.Key
	Host   hosts.ID // of the guest
	Stream *Stream  // by which it has asked; nil by UDP
}

// Relay passes on the queries of one queue pair, and looks after the connections to the name server that it has. It is not safe for
// concurrent use. Times are nanoseconds of the turn's clock.
type Relay struct {
	cfg       Config
	resolvers *dns.Split
	queries   queries
	lookAt    int64 // when connections are looked at again, 0 for never
}

// New returns a relay without queries.
func New(cfg Config) Relay { return Relay{cfg: cfg, resolvers: cfg.Guest.resolvers} }

// UseJudge lets somebody judge queries and answers, before the first query.
func (r *Relay) UseJudge(j *namejudge.Judge) { r.cfg.Judge = j }

// failed takes note that a resolver cannot be reached, or has failed.
func (r *Relay) failed(now int64, of *dns.Relay, by dns.Transport, to dns.Server) {
	if of.Failed(now, by, to) {
		r.cfg.Left(to, by)
	}
}

// answered takes note that a resolver has answered.
func (r *Relay) answered(now int64, of *dns.Relay, by dns.Transport, to dns.Server) {
	if of.Answered(now, by, to) {
		r.cfg.Back(to)
	}
}

// Forgive forgets which resolvers have failed, and what they have answered: nobody knows for how long the host did nothing.
func (r *Relay) Forgive() {
	r.resolvers.Forgive()
	r.cfg.Guest.forgetAnswers()
}

// IsShortage reports whether err says that the host lacks something just now, which is nobody's fault.
func IsShortage(err error) bool {
	switch err {
	case ErrNoRoom, unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EINTR:
		return true
	}
	return false
}
