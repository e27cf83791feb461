package nat

import (
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/timerwheel"
)

// none is the index of no flow. Indices start at 1, so that a zero value is none as well.
const (
	none        = flowtable.None
	firstRecord = flowtable.None + 1
)

// flow is one record of the table: a TCP connection, a UDP association, or a series of pings. It holds no pointers.
//
// All of it belongs to its owner's thread, but for key, which does not change from insert to the end of the grace period: any queue
// pair may read it during a turn in which lookup gave it the record. What only one protocol knows of a flow is not here, but with
// its engine; see flowStates.
type flow struct {
	key   flowtable.Key
	ipLen uint8    // of the IP header in front of what goes to the guest
	host  hosts.ID // of the guest, hosts.Any if it is not known yet
	index uint32   // of this record

	runNext uint32 // run list
	fd      int32  // host socket, -1 for none
	bits    flowBits
	to      uint8 // the queue pair that it is leaving for
	state   flowState

	begun     int64  // time of the Port's clock
	fromGuest uint64 // bytes that the host's socket took
	toGuest   uint64 // bytes that the guest acknowledged, or was sent as datagrams

	classPrev, classNext uint32 // list of the class

	class  flowClass
	sender udpSender // of its socket
	news   uint16    // UDP, ping: what the number of route.ChangeCount was when its socket's source address was right
	memory socketMemory
}

// flowBits is what is known of any flow, and what is due to it. What only a protocol knows is with its state, see tcpFlags.
type flowBits uint16

const (
	onRunList  flowBits = 1 << iota
	readable            // the host socket may have more; only EAGAIN clears it
	writable            // the host socket said that it can be written
	hungUp              // EPOLLRDHUP: the host's FIN has arrived, though perhaps unread data stand before it
	failed              // EPOLLERR: the host's side is dead, though perhaps unread data stand before its end
	inbound             // the host began it
	shared              // the socket is that of a forward or a mapping
	unixSocket          // the socket is a unix one
	leaving             // the flow goes to another queue pair
	direct              // the host began it, and not by a forward; see Call
	awaited             // the client waits for what the guest answers, and somebody else has its socket, too; see Call
	isNew               // the guest began it, and nobody has answered yet; see newFlows
)

// flowState is where a flow stands. Of a flow that is found by its key it is that of its protocol.
type flowState uint8

const (
	stateFree      flowState = iota
	stateDead                // the flow is over; the run list frees its record
	stateActive              // packets pass: for protocols that have no other states
	protocolStates           // the first of those that a protocol has itself
)

// flowTable has the flows of a guest, whose queue pairs share it: a record for each key of its table.
type flowTable struct {
	*flowtable.Table
	records flowtable.Slab[flow]
	timers  timerwheel.Timers // each queue pair has a wheel for those of its own flows
	sockets atomic.Int32      // of flows, and of mappings that have flows
}

// newFlowTable makes a table in which max flows may live.
func newFlowTable(max int) *flowTable {
	t := flowtable.New(max)
	return &flowTable{Table: t, records: flowtable.NewSlab[flow](t), timers: timerwheel.NewTimers(t)}
}

// flowStates are what the protocols have of a guest's flows, beside their records. They are for the engines of the queue pairs, each
// of which has those of its protocol and no others.
type flowStates struct {
	tcp  flowtable.Slab[tcpFlow]
	udp  flowtable.Slab[udpFlow]
	ping flowtable.Slab[pingRequest]
}

// newFlowStates returns what is empty for the flows of a table.
func newFlowStates(t *flowTable) flowStates {
	return flowStates{
		flowtable.NewSlab[tcpFlow](t.Table), flowtable.NewSlab[udpFlow](t.Table), flowtable.NewSlab[pingRequest](t.Table),
	}
}

// at returns the record of index i, which must exist.
func (t *flowTable) at(i uint32) *flow { return t.records.At(i) }

// lookup returns the flow of a key, nil if there is none. Any queue pair may call it during a turn. Of another's flow it may use
// what does not change only; see flow.
func (t *flowTable) lookup(k *flowtable.Key) *flow {
	i := t.Lookup(k)
	if i == none {
		return nil
	}
	return t.at(i)
}

// byIndex returns the flow of owner that an event names, nil if it is another's, or its generation has passed. For owner.
func (t *flowTable) byIndex(i, gen, owner uint32) *flow {
	if !t.IsCurrent(i, gen, owner) {
		return nil
	}
	return t.at(i)
}

// insert makes a record for k that belongs to owner. Before anybody else can find it, prepare is called, which makes what others may
// read of the flow. It returns nil if there is no room, or if
// another queue pair has made one in the meantime, which is elsewhere.
func (t *flowTable) insert(k *flowtable.Key, owner uint32, prepare func(i uint32)) (f *flow, at where) {
	i, exists := t.Insert(k, owner, func(i uint32) {
		*t.records.Make(i) = flow{key: *k, index: i, fd: -1, ipLen: uint8(k.Guest.HeaderLen())}
		t.timers.Make(i)
		prepare(i)
	})
	switch {
	case exists:
		return nil, elsewhere
	case i == none:
		return nil, nowhere
	}
	return t.at(i), here
}

// unlink takes f's key out of the table; the record stays until the table is told that it is free. For its owner.
func (t *flowTable) unlink(f *flow) {
	t.Unlink(f.index)
	f.state = stateDead
}

// each calls fn for every live flow of owner, on whose thread. fn may unlink the flow that it is called for.
func (t *flowTable) each(owner uint32, fn func(*flow)) {
	t.Each(owner, func(i uint32) { fn(t.at(i)) })
}

// eachOf does what each does for the flows of a portion of the table, and reports whether there is one with that number.
func (t *flowTable) eachOf(n int, owner uint32, fn func(*flow)) bool {
	return t.EachOf(n, owner, func(i uint32) { fn(t.at(i)) })
}

// eachFrom does what each does for the records of an index on, until fn returns false. It returns the index to go on with, 0 if there
// are no more.
func (t *flowTable) eachFrom(index, owner uint32, fn func(*flow) bool) (next uint32) {
	return t.EachFrom(index, owner, func(i uint32) bool { return fn(t.at(i)) })
}
