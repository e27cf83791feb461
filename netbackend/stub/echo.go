package stub

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// maxFrame is the longest frame: an IP packet of 64 KiB behind an Ethernet header with two VLAN tags.
	maxFrame = 65535 + vnet.EthernetHeaderLen + 2*4
	// chunkLen is what is copied at a time; it stays in the processor's nearest cache.
	chunkLen = 8192
)

// Echo sends every frame back to the guest as it came, addresses included. A frame that finds no receive buffer stays
// in the transmit ring until there is one.
type Echo struct {
	base
	chunk [chunkLen]byte
	run   [netbackend.MaxFrames]netbackend.FrameMeta
	soon  [netbackend.MaxFrames]guestmem.Iovec // scratch of foretell
}

var _ netbackend.Port = (*Echo)(nil)

// NewEcho returns an Echo.
func NewEcho() *Echo { return &Echo{} }

// Offers implements netbackend.Port: an offloaded frame goes back with its work still undone, so each transmit offload
// is offered beside the receive offload that undoes it.
func (e *Echo) Offers() uint64 { return transmitOffloads | receiveOffloads }

// Turn implements netbackend.Port.
func (e *Echo) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	told := 0
	for done < len(tx) {
		if done >= told {
			told = done + e.foretell(tx[done:])
		}
		if n := e.frames(tx[done:], rx); n > 0 {
			done += n
			continue
		}
		if !e.frame(&tx[done], rx) {
			break
		}
		done++
	}
	return done, 0
}

// frames deals with the first chains of tx as long as they are what most are: a frame in one piece that asks for no offload,
// for which there is a buffer that holds it. It returns how many those were. Headers are read before anything is copied,
// and all is copied before anything is given to the guest: then the processor waits for many cache lines at a time.
func (e *Echo) frames(tx []virtqueue.Chain, rx *netbackend.RXWriter) int {
	n, longest := e.simple(tx)
	lease := rx.Reserve(netbackend.Request{Max: longest, Frames: n, Shape: netbackend.OnePiece})
	places := lease.Pieces()
	guestmem.PrefetchWrite(places)
	var bytes, sent uint64
	for i := range places {
		length := int(tx[i].Len) - vnet.HeaderLen
		guestmem.Move(&places[i], &tx[i].Iov[0], vnet.HeaderLen, length)
		if length < netbackend.MinFrame {
			netbackend.Pad(places[i:i+1], length)
		}
		bytes += uint64(length)
		sent += uint64(e.run[i].Len)
	}
	lease.CommitRun(e.run[:len(places)])
	e.counters.Bytes += bytes
	e.counters.SentBytes += sent
	e.counters.Frames += uint64(len(places))
	e.counters.SentFrames += uint64(len(places))
	return len(places)
}

// foretell tells the processor of the headers and beginnings of the next frames, and returns of how many.
func (e *Echo) foretell(tx []virtqueue.Chain) int {
	next := tx[:min(len(tx), len(e.soon))]
	n := 0
	for i := range next {
		if len(next[i].Iov) > 0 {
			e.soon[n] = next[i].Iov[0]
			n++
		}
	}
	guestmem.Prefetch(e.soon[:n], 0)
	guestmem.Prefetch(e.soon[:n], vnet.HeaderLen)
	return len(next)
}

// simple fills in e.run for the first chains of tx that are simple, and returns how many those are and the length of their
// longest frame as it goes back.
func (e *Echo) simple(tx []virtqueue.Chain) (n, longest int) {
	for i := range tx[:min(len(tx), netbackend.MaxFrames)] {
		first, length, ok := e.plain(&tx[i])
		if !ok || len(tx[i].Iov) > 1 || length > maxFrame {
			break
		}
		length = max(length, netbackend.MinFrame)
		e.run[i] = netbackend.FrameMeta{First: first, Len: uint32(length)}
		longest = max(longest, length)
		n++
	}
	return n, longest
}

// frame deals with one chain. It returns false if the frame must wait for a receive buffer.
func (e *Echo) frame(c *virtqueue.Chain, rx *netbackend.RXWriter) bool {
	h, length, ok := e.header(c)
	if !ok {
		e.counters.Bad++
		return true
	}
	h.Clean(length)
	if length > maxFrame || !e.accepts(&h) {
		e.counters.Undeliverable++
		return true
	}
	lease := rx.Reserve(netbackend.Request{Min: length, Max: max(length, netbackend.MinFrame)})
	if lease.Len() == 0 {
		return false
	}
	e.copy(lease.Frame(0), c.Iov, length)
	lease.Commit(&h, length)
	e.counters.Frames++
	e.counters.Bytes += uint64(length)
	e.counters.SentFrames++
	e.counters.SentBytes += uint64(max(length, netbackend.MinFrame))
	return true
}

// accepts tells whether the guest takes frames with header h, which it sent.
func (e *Echo) accepts(h *vnet.Header) bool {
	var need uint64
	if h.Flags&vnet.FlagNeedsCSum != 0 {
		need |= vnet.FeatureGuestCSum
	}
	if h.GSOType&vnet.GSOECN != 0 {
		need |= vnet.FeatureGuestECN
	}
	switch h.GSOType &^ vnet.GSOECN {
	case vnet.GSOTCPv4:
		need |= vnet.FeatureGuestTSO4
	case vnet.GSOTCPv6:
		need |= vnet.FeatureGuestTSO6
	case vnet.GSOUDPL4: // the header does not tell which IP version it is
		need |= vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6
	}
	return e.features&need == need
}

// copy copies the frame of length bytes behind the header of the chain from.
func (e *Echo) copy(to, from []guestmem.Iovec, length int) {
	for done := 0; done < length; {
		n := guestmem.CopyFrom(e.chunk[:min(chunkLen, length-done)], from, e.headerLen+done)
		done += guestmem.CopyTo(to, done, e.chunk[:n])
	}
}
