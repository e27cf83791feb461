package stub

import (
	"encoding/binary"

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
	reflects bool // addresses are exchanged
	chunk    [chunkLen]byte
	run      [netbackend.MaxFrames]netbackend.FrameMeta
	soon     [netbackend.MaxFrames]guestmem.Iovec // scratch of foretell
}

var _ netbackend.Port = (*Echo)(nil)

// NewEcho returns an Echo.
func NewEcho() *Echo { return &Echo{} }

// NewReflector returns an Echo that exchanges the Ethernet addresses of each frame, as the frame's receiver would that answers.
func NewReflector() *Echo { return &Echo{reflects: true} }

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
		if e.reflects {
			reflect(&places[i], &tx[i].Iov[0])
		}
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

// ownAddress is ours as the source of a frame, in the order of its bytes in memory: 02:00:00:00:00:01.
const ownAddress = 0x01_00_00_00_00_02

// exchange returns the first 12 bytes of a frame, which are in two words, with the addresses exchanged. A frame to a group goes back
// from us, for no group is a source.
func exchange(first uint64, rest uint32) (uint64, uint32) {
	to, from := first&(1<<48-1), first>>48|uint64(rest)<<16
	if to&1 != 0 {
		to = ownAddress
	}
	return from | to<<48, uint32(to >> 16)
}

// reflect writes the addresses of the frame behind the header in from to the beginning of to, exchanged.
func reflect(to, from *guestmem.Iovec) {
	first, rest := exchange(from.Word64(vnet.HeaderLen), from.Word32(vnet.HeaderLen+8))
	to.PutWord64(0, first)
	to.PutWord32(8, rest)
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
	if length > maxFrame || !h.AcceptedBy(e.features) {
		e.counters.Undeliverable++
		return true
	}
	lease := rx.Reserve(netbackend.Request{Min: length, Max: max(length, netbackend.MinFrame)})
	if lease.Len() == 0 {
		return false
	}
	e.copy(lease.Frame(0), c.Iov, length)
	if e.reflects {
		e.reflectPieces(lease.Frame(0), c.Iov)
	}
	lease.Commit(&h, length)
	e.counters.Frames++
	e.counters.Bytes += uint64(length)
	e.counters.SentFrames++
	e.counters.SentBytes += uint64(max(length, netbackend.MinFrame))
	return true
}

// reflectPieces is reflect for frames in pieces.
func (e *Echo) reflectPieces(to, from []guestmem.Iovec) {
	b := e.chunk[:12]
	guestmem.CopyFrom(b, from, e.headerLen)
	first, rest := exchange(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]))
	binary.LittleEndian.PutUint64(b, first)
	binary.LittleEndian.PutUint32(b[8:], rest)
	guestmem.CopyTo(to, 0, b)
}

// copy copies the frame of length bytes behind the header of the chain from.
func (e *Echo) copy(to, from []guestmem.Iovec, length int) {
	for done := 0; done < length; {
		n := guestmem.CopyFrom(e.chunk[:min(chunkLen, length-done)], from, e.headerLen+done)
		done += guestmem.CopyTo(to, done, e.chunk[:n])
	}
}
