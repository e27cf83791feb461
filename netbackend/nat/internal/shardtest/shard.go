package shardtest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// MaxFlows is how many flows there may be at once.
const MaxFlows = 64

// Shard is the shard of a guest's only queue pair, in its first turn.
type Shard struct {
	*shard.Turn
	Notices []netbackend.Notice // that the user was told
	Tokens  []uint64            // by which the worker was to watch sockets for input

	t      testing.TB
	driver *vqtest.Driver
	queue  *virtqueue.Queue
	writer netbackend.RXWriter
	at     map[uint16]guestmem.GPA // where a buffer is
	kept   [][]byte                // memory of chains, of which nothing else tells the collector
}

// bufLen is the length of a receive buffer, longer than any frame.
const bufLen = 4096

// New returns one whose receive ring runs and has so many buffers.
func New(t testing.TB, buffers int) *Shard {
	t.Helper()
	limits, of := shard.UsualKernelLimits(), new(shard.Pairs)
	if err := of.SetUp(MaxFlows, &limits, nil); err != nil {
		t.Fatal(err)
	}
	s := &Shard{Turn: new(shard.Turn), t: t, at: map[uint16]guestmem.GPA{}}
	mac := [6]byte{2, 0, 0, 0, 0, 1}
	nets := guestnet.New(
		guestnet.Network{Prefix: netip.MustParsePrefix("10.0.2.0/24"), Gateway: Addr("10.0.2.2"), DNS: Addr("10.0.2.3")},
		guestnet.Network{Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), Gateway: Addr("fd00:10:0:2::2"), DNS: Addr("fd00:10:0:2::3")}, mac)
	s.SetUp(0, shard.Config{MaxFlows: MaxFlows, MaxSockets: MaxFlows, Queues: 1, MTU: 1500, GatewayMAC: mac}, of, &nets)
	s.Worker, s.HeaderLen = worker{of: s}, vnet.HeaderLen
	nothing := func(*shard.Flow) {}
	s.Hooks = shard.Hooks{
		Created: nothing, Closing: nothing, Released: nothing, Evicted: func(*shard.Turn, *shard.Flow) {}, Located: func() {},
		Misaddressed: func(*shard.Turn, shard.Packet, uint8) {},
	}
	s.Join()
	s.Receiving, s.Connected = true, true
	s.AnnounceRunning()
	s.attach(buffers)
	s.At(1)
	return s
}

// attach gives it a receive ring with buffers.
func (s *Shard) attach(buffers int) {
	mem := vqtest.NewMemory(4<<20, vqtest.Heap)
	s.driver = vqtest.NewDriver(mem, vqtest.Options{Size: 256})
	cfg := s.driver.Layout()
	cfg.Dir = virtqueue.ToGuest
	var err error
	s.queue, err = virtqueue.New(mem.Table(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.writer.Attach(s.queue, vnet.HeaderLen, true)
	s.Post(buffers)
}

// Post lets the guest have so many receive buffers more.
func (s *Shard) Post(buffers int) {
	for range buffers {
		gpa := s.driver.Memory().Alloc(bufLen, 16)
		head, ok := s.driver.Add(vqtest.Buf{GPA: gpa, Len: bufLen, Write: true})
		if !ok {
			s.t.Fatal("the ring has no room for so many buffers")
		}
		s.at[head] = gpa
	}
	s.driver.Publish()
}

// At begins a turn at a time in nanoseconds.
func (s *Shard) At(now int64) { s.Begin(now, &s.writer) }

// Frames are those that the guest has got since it was asked last, without virtio-net headers.
func (s *Shard) Frames() (all [][]byte) {
	s.queue.Flush()
	for {
		head, n, ok := s.driver.Used()
		if !ok {
			return all
		}
		frame := s.driver.Memory().Bytes(s.at[head], int(n))
		all = append(all, slices.Clone(frame[vnet.HeaderLen:]))
	}
}

// Packet is one of the guest's, whose host has the MAC address HostMAC. Its transport header stands at the beginning of its frame.
func (s *Shard) Packet(src, dst string, proto uint8, l4 []byte) *shard.Packet {
	s.From = s.Meet(HostMAC())
	return &shard.Packet{
		Packet: netpkt.Packet{Src: Addr(src), Dst: Addr(dst), L4: l4, L4Len: len(l4), Proto: proto, Hops: shard.UsualHops},
		Chain:  s.Chain(l4),
	}
}

// Chain is one of the guest's that holds b.
func (s *Shard) Chain(b []byte) *virtqueue.Chain {
	s.kept = append(s.kept, b)
	return &virtqueue.Chain{Iov: []guestmem.Iovec{guestmem.PieceOf(b)}, Len: uint32(len(b))}
}

// HostMAC is the MAC address of the guest's host.
func HostMAC() uint64 { return hosts.PackMAC([6]byte{0x52, 0x54, 0, 0, 0, 9}) }

// Addr reads an address.
func Addr(text string) ipaddr.Addr { return ipaddr.From(netip.MustParseAddr(text)) }

// worker keeps what it is asked for.
type worker struct {
	porttest.DeafWorker
	of *Shard
}

// Raise implements netbackend.Worker.
func (w worker) Raise(n netbackend.Notice) { w.of.Notices = append(w.of.Notices, n) }

// RegisterInput implements netbackend.Worker.
func (w worker) RegisterInput(_ int, token uint64) error {
	w.of.Tokens = append(w.of.Tokens, token)
	return nil
}
