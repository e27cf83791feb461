package udp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/bootserver"
	"github.com/vringnet/vring/netbackend/nat/internal/egress"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/source"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dhcp6"
)

// Hooks are what UDP asks of services that the guest reaches by datagrams. length is that of UDP header and payload.
type Hooks struct {
	DHCP, DHCPv6 func(t *shard.Turn, k shard.Packet, length int)
	Query        func(t *shard.Turn, key flowtable.Key, k shard.Packet, length int) // to the name server
	Inspector    InspectorHooks
}

// Engine passes datagrams on. The state of associations and mappings is its own.
type Engine struct {
	shard     *shard.Shard
	cfg       Config
	link      *link.Layer
	icmp      *icmperr.Sender
	sources   *source.Keeper
	fragments *fragments.Sender
	listeners *listeners.Set
	policy    *policy.Policy
	ledger    *ledger.Keeper
	routes    *route.Table
	hooks     Hooks
	guest     *Guest

	txBatch txBatch
	mmsgs   [hostsock.BatchSize]mmsg
	rxBatch rxBatch
	batch   hostsock.Batch
	quoted  [netpkt.UDPLen]byte
	copied  copied
	user    hosts.UserCache // of the address that datagrams went to last by a forward
}

// Config is what UDP takes from the configuration of its guest.
type Config struct {
	Segments            bool // the kernel cuts messages into datagrams (UDP_SEGMENT)
	GRO                 bool // and puts datagrams together (UDP_GRO)
	EndpointIndependent bool // each port of the guest has one port of the host
	Services            measure.Finder
	Boot                bootserver.Finder
	Filtering           Filtering
	Off                 bool // the guest has DHCP, but no other UDP
}

// Uses are the parts that pass datagrams on with it.
type Uses struct {
	Shard     *shard.Shard
	Link      *link.Layer
	ICMP      *icmperr.Sender
	Sources   *source.Keeper
	Fragments *fragments.Sender
	Listeners *listeners.Set
	Policy    *policy.Policy
	Ledger    *ledger.Keeper
	Routes    *route.Table
	Hooks     Hooks
}

// SetUp makes that of a queue pair.
func (e *Engine) SetUp(cfg Config, u Uses, g *Guest) {
	e.cfg, e.guest = cfg, g
	e.shard, e.link, e.icmp, e.sources, e.fragments = u.Shard, u.Link, u.ICMP, u.Sources, u.Fragments
	e.listeners, e.policy, e.ledger, e.routes, e.hooks = u.Listeners, u.Policy, u.Ledger, u.Routes, u.Hooks
}

// Guest is what UDP has of a guest. All of its queue pairs use it.
type Guest struct {
	states    flowtable.Slab[association]
	mappings  mappings
	ways      ways
	strangers ratelimit.Bucket // judged of all that send to mappings

	Pattern *measure.Pattern // what chargen sends, nil without services
}

// NewGuest returns what UDP has of a guest that was not heard of yet.
func NewGuest(t *shard.Table) *Guest {
	g := &Guest{states: flowtable.NewSlab[association](t.Table), mappings: mappings{of: map[ipaddr.Endpoint]*mapping{}}}
	g.strangers.Fill(strangersJudged)
	return g
}

// association is an association between a port of the guest and one remote endpoint. Its socket is connected, so that the
// kernel tells what became of a datagram; or it is that of a forward, which all peers share.
type association struct {
	peer        ipaddr.Endpoint // where a shared flow's datagrams go
	way         uint16          // and by which of ways, 0 for none
	via         uint32          // the forward whose socket a shared flow has, counted from 1, or viaMapping
	first, last uint16          // datagrams of this turn that wait in the txBatch, 0 for none
	receiver    listeners.Receiver
	traits      traits
	noGSO       bool // the kernel does not cut datagrams for its socket (UDP_SEGMENT)
}

// traits are what else is known of an association.
type traits uint8

const (
	byLink    traits = 1 << iota // the way is by its interface; see chooseLink
	passShort                    // of one that is held: see PassShort
)

// of returns the state of a UDP flow. Of another queue pair's it is valid, and may be read, as long as a lookup lasts, and only peer,
// way and via.
func (e *Engine) of(f *shard.Flow) *association { return e.guest.states.At(f.Index) }

// begin returns what makes the state of a new flow, for CreateWith.
func (e *Engine) begin(udp association) func(i uint32) {
	return func(i uint32) { *e.guest.states.Make(i) = udp }
}

const (
	// timeout ends an association after silence (RFC 4787 section 4.3 asks for at least two minutes). A name server
	// answers once, and soon.
	timeout    = int64(180e9)
	dnsTimeout = int64(20e9)
)

// Datagram handles a UDP datagram of the guest.
func (e *Engine) Datagram(t *shard.Turn, k *shard.Packet) (retry bool) {
	if len(k.L4) < netpkt.UDPLen {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	length := int(binary.BigEndian.Uint16(k.L4[4:]))
	if length < netpkt.UDPLen || length > k.L4Len {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	if binary.BigEndian.Uint16(k.L4[2:]) == netpkt.DHCPServerPort && forDHCP(t, k) {
		e.hooks.DHCP(t, *k, length)
		return false
	}
	if forDHCP6(k) {
		e.hooks.DHCPv6(t, *k, length)
		return false
	}
	if e.cfg.Off {
		t.Drop(&t.Counters.Unsupported)
		return false
	}
	if k.Segment != 0 {
		length = k.L4Len // drivers differ in what they write there: the whole, or the length of one datagram
		if length-netpkt.UDPLen > maxSegments*k.Segment {
			t.Drop(&t.Counters.Malformed)
			return false
		}
	}
	key, ok := t.KeyOf(k, netpkt.UDP)
	if !ok {
		t.Hooks.Misaddressed(t, *k, netpkt.UDP)
		return false
	}
	if k.Hops <= 1 && e.icmp.Outlived(t, k, &key, length) {
		return false
	}
	if t.IsQuery(&key) {
		e.hooks.Query(t, key, *k, length)
		return false
	}
	f, at := t.Find(&key)
	if at == shard.Nowhere {
		if service := e.cfg.Services.Find(&key); service != measure.None {
			e.answer(t, &key, k, length, service)
			return false
		}
		if f, at = e.Associate(t, &key, k, length); f != nil {
			e.prolong(t, f)
		}
	}
	if f == nil {
		return at == shard.Elsewhere
	}
	if f.Class == shard.ClassStrangers && !e.befriend(t, f) {
		return false
	}
	t.Touch(f)
	if f.Bits&shard.Held != 0 {
		e.inspect(t, f, k, length-netpkt.UDPLen)
		return false
	}
	e.enqueue(t, f, k, length-netpkt.UDPLen)
	return false
}

// forDHCP tells whether a datagram to the DHCP port is for us.
func forDHCP(t *shard.Turn, k *shard.Packet) bool {
	return k.Dst == ipaddr.From4([]byte{255, 255, 255, 255}) || k.Dst.Is4() && t.Nets.IsOurs(&k.Dst)
}

// forDHCP6 tells whether a datagram is one for DHCPv6 servers. They are sought on the guest's link, by its address there.
func forDHCP6(k *shard.Packet) bool {
	return binary.BigEndian.Uint16(k.L4[2:]) == dhcp6.ServerPort && k.Src.IsLinkLocal() && k.Dst == ipaddr.From(dhcp6.Servers)
}

// Associate makes a flow for the guest's first datagram to somebody. It returns nil if there is to be none.
func (e *Engine) Associate(t *shard.Turn, key *flowtable.Key, k *shard.Packet, length int) (*shard.Flow, shard.Where) {
	if server := e.cfg.Boot.Find(key); server != nil {
		return e.associateBoot(t, key, server)
	}
	d := e.policy.Judge(policy.DestinationOf(key))
	held := d.Verdict == policy.Held && d.Proof&policy.ProofQUIC != 0
	if d.Verdict != policy.Allowed && !held {
		e.icmp.Reject(t, key, &d, length, k.L4)
		return nil, shard.Nowhere
	}
	if !t.MayBegin() {
		return nil, shard.Nowhere
	}
	f, at := e.associateWith(t, &d, key, k, length)
	if f != nil {
		e.policy.Opened(f.Index, d.Name)
	}
	if f != nil && held {
		f.Bits |= shard.Held
		e.hooks.Inspector.Hold(f)
	}
	e.ledger.Begun(f, ledger.Judged(&d))
	t.Began(f, at)
	return f, at
}

// associateWith makes a flow that the policy allows.
func (e *Engine) associateWith(t *shard.Turn, d *policy.Decision, key *flowtable.Key, k *shard.Packet, length int) (*shard.Flow, shard.Where) {
	c, to := shard.ClassAssociations, d.To
	bound := egress.Binds(d.Way, to.Addr.Is4())
	// Where flows may take different ways, they share no socket. Who is held is not to be sent to by others before it has told its server.
	mapped := e.cfg.EndpointIndependent && !bound && d.Verdict == policy.Allowed
	if !t.AdmitFlow(c) || !(mapped && e.isMapped(key)) && !t.AdmitSocket() {
		e.icmp.SendUnreachable(t, key, netpkt.CodeHost, length, k.L4)
		return nil, shard.Nowhere
	}
	if mapped {
		return e.Share(t, key, to, c)
	}
	fd, err := unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.OverLimit(limits.Host)
		e.icmp.SendUnreachable(t, key, netpkt.CodeHost, length, k.L4)
		return nil, shard.Nowhere
	}
	gro, news := e.prepareSocket(fd, &to.Addr, &key.Guest), e.sources.Changes()
	if err := connectBy(fd, &to, d.Way); err != nil {
		_ = unix.Close(fd)
		e.icmp.SendUndelivered(t, key, err, length, k.L4)
		return nil, shard.Nowhere
	}
	f, at := t.CreateWith(key, fd, shard.StateActive, 0, c, e.begin(association{receiver: listeners.Receiver{GRO: gro}}))
	if f != nil && bound {
		f.Bits |= shard.Bound
	}
	if f != nil {
		t.Counters.UDPFlows++
		f.RouteNews = news
		f.Sender.V6 = !to.Addr.Is4()
	}
	return f, at
}

// connectBy binds a socket as its way says, and connects it. The error is an unix.Errno.
func connectBy(fd int, to *ipaddr.Endpoint, way *spec.Way) error {
	if err := egress.Bind(fd, to.Addr.Is4(), way); err != nil {
		return egress.ErrnoOf(err)
	}
	return unix.Connect(fd, to.Sockaddr())
}

// prepareSocket prepares a socket for datagrams, which is one of host's version of IP. gro tells that what is received may be
// several put together, which guest takes so.
func (e *Engine) prepareSocket(fd int, host, guest *ipaddr.Addr) (gro bool) {
	hostsock.KeepErrors(host, fd, 1)
	return e.shard.TakesUSO(guest) && e.cfg.GRO && unix.SetsockoptInt(fd, hostsock.SolUDP, unix.UDP_GRO, 1) == nil
}

// prolong puts the end of an association off. What the guest sends does so if it got through, or if the guest was not told that
// it did not: a flow that leads nowhere ends, and the next datagram begins a new one.
func (e *Engine) prolong(t *shard.Turn, f *shard.Flow) {
	timeout := timeout
	if f.Key.RemotePort == shard.DNSPort {
		timeout = dnsTimeout
	}
	t.Wheel.Set(f.Index, t.Now+timeout)
}
