package main

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/hostile"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// mayhem lets one front end that means harm follow the other, on a socket of their own and on those of the guests, until
// ctx ends.
func (s *soak) mayhem(ctx context.Context, r *rand.Rand) {
	kinds := []func(context.Context, string, *rand.Rand){noise, nonsense, flood, ruin, stall}
	for ctx.Err() == nil {
		harm := kinds[r.IntN(len(kinds))]
		if g := s.guests[r.IntN(len(s.guests))]; r.IntN(3) == 0 && g.door.TryRLock() {
			harm(ctx, g.socket, r) // to be turned away
			g.door.RUnlock()
		} else {
			harm(ctx, s.garbage, r)
		}
		s.mayhems.Add(1)
		sleep(ctx, time.Duration(r.Int64N(int64(300*time.Millisecond))))
	}
}

// noise is bytes.
func noise(_ context.Context, socket string, r *rand.Rand) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer conn.Close()
	b := make([]byte, 1+r.IntN(4096))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	_, _ = conn.Write(b)
}

// nonsense is messages that are well formed, with anything in them and any descriptors beside.
func nonsense(ctx context.Context, socket string, r *rand.Rand) {
	fe, err := frontend.Dial(socket)
	if err != nil {
		return
	}
	defer fe.Close()
	fds := someFDs()
	defer closeAll(fds)
	for range r.IntN(200) {
		m := wire.Message{
			Request: wire.Request(r.IntN(46)), NeedReply: r.IntN(8) == 0, Ring: r.Uint32N(4), Num: r.Uint32N(1 << 10),
			Value: r.Uint64() >> r.IntN(64), NoFD: r.IntN(4) == 0,
			Addr: wire.RingAddr{Desc: r.Uint64(), Avail: r.Uint64(), Used: r.Uint64()},
		}
		for range r.IntN(3) {
			m.Regions = append(m.Regions, wire.Region{GPA: r.Uint64() << 12, Size: r.Uint64N(1 << 24), UVA: r.Uint64()})
		}
		if fe.Write(m.Append(nil), fds[:r.IntN(len(fds))]...) != nil || ctx.Err() != nil {
			return
		}
	}
}

// someFDs are descriptors of several kinds.
func someFDs() (fds []int) {
	event, _ := unix.Eventfd(0, unix.EFD_CLOEXEC)
	memory, _ := unix.MemfdCreate("garbage", unix.MFD_CLOEXEC)
	_ = unix.Ftruncate(memory, 1<<24)
	null, _ := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	poll, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return []int{event, memory, null, poll}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// connect is a front end whose guest is up, or nil.
func connect(socket string) *hostile.FrontEnd {
	f := hostile.New(netip.MustParseAddr("10.0.2.99"))
	if err := f.Connect(socket); err != nil {
		f.Close()
		return nil
	}
	return f
}

// flood is frames, as fast as it goes, and chains that break every rule.
func flood(_ context.Context, socket string, r *rand.Rand) {
	f := connect(socket)
	if f == nil {
		return
	}
	defer f.Close()
	f.Flood(time.Duration(r.Int64N(int64(100 * time.Millisecond))))
	for range 200 {
		for i := range uint16(8) {
			f.Transmit.RawDesc(i, vqtest.Desc{
				Addr: uint64(vqtest.BaseGPA) + r.Uint64N(1<<23), Len: r.Uint32() >> r.IntN(32), Flags: uint16(r.IntN(8)), Next: uint16(r.IntN(260)),
			})
		}
		f.Transmit.AddHead(uint16(r.IntN(260)))
		f.Transmit.Publish()
		f.Kick(hostile.TransmitRing)
	}
	if r.IntN(2) == 0 {
		f.Transmit.RawAvailIdx(uint16(r.Uint32()), uint16(r.Uint32()))
		f.Kick(hostile.TransmitRing)
	}
}

// ruin takes the memory away in the middle of traffic. The guest is not to be touched after that.
func ruin(_ context.Context, socket string, r *rand.Rand) {
	f := connect(socket)
	if f == nil {
		return
	}
	defer f.Close()
	f.Flood(time.Duration(r.Int64N(int64(50 * time.Millisecond))))
	f.Memory.Truncate(r.Int64N(2) << 12)
	for range 20 {
		f.Kick(r.IntN(2))
		time.Sleep(time.Millisecond)
	}
}

// stall fills what vring writes to, or never reads its replies.
func stall(_ context.Context, socket string, r *rand.Rand) {
	f := connect(socket)
	if f == nil {
		return
	}
	defer f.Close()
	if r.IntN(2) == 0 {
		f.FillCalls()
		f.Flood(20 * time.Millisecond)
		return
	}
	get := (&wire.Message{Request: wire.GetFeatures}).Append(nil)
	many := make([]byte, 0, 1000*len(get))
	for range 1000 {
		many = append(many, get...)
	}
	binary.LittleEndian.PutUint32(many[len(many)-4:], 0)
	_ = f.Write(many)
	time.Sleep(time.Duration(r.Int64N(int64(200 * time.Millisecond))))
}
