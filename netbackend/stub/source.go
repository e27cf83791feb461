package stub

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// sourceBurst is how many frames a Source sends a turn.
	sourceBurst = 64
	// maxSourceRate is one frame a nanosecond, which no machine can do.
	maxSourceRate = second
	second        = 1_000_000_000 // in nanoseconds

	// sequenceAt is where a frame has its number, 8 bytes, the most significant first.
	sequenceAt = vnet.EthernetHeaderLen
	// experimental is the Ethernet type of frames that mean nothing to anybody (IEEE 802, local experimental 1).
	experimental = 0x88b5
)

// SourceConfig says what a Source sends.
type SourceConfig struct {
	Size int    // of a frame, in bytes, from netbackend.MinFrame to what a buffer of the guest can be
	Rate uint64 // frames per second; 0 for as many as the guest takes
}

// Check tells what is wrong with c.
func (c SourceConfig) Check() error {
	switch {
	case c.Size < netbackend.MinFrame || c.Size > maxFrame:
		return fmt.Errorf("frames of %d bytes: want %d to %d", c.Size, netbackend.MinFrame, maxFrame)
	case c.Rate > maxSourceRate:
		return fmt.Errorf("%d frames per second: want at most %d", c.Rate, uint64(maxSourceRate))
	}
	return nil
}

// Source sends frames to the guest, and swallows what the guest sends. Its frames are broadcast ones of an experimental
// type, numbered from 0 on: a number that is missing was lost by the guest.
type Source struct {
	base
	rate uint64
	last int64  // with a rate: the time up to which frames were found to be due, 0 while the guest takes none
	rest uint64 // and what remained, in parts of a frame by rate and nanoseconds
	due  uint64 // frames that are due and not sent yet

	receives bool
	frame    []byte
	plain    vnet.Header // without offloads
	run      [netbackend.MaxFrames]netbackend.FrameMeta
}

var _ netbackend.Port = (*Source)(nil)

// NewSource returns a Source of frames as c says.
func NewSource(c SourceConfig) (*Source, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Source{rate: c.Rate, frame: make([]byte, c.Size)}
	copy(s.frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1})
	binary.BigEndian.PutUint16(s.frame[12:], experimental)
	for i := range s.run {
		s.run[i].Len = uint32(c.Size)
	}
	return s, nil
}

// Offers implements netbackend.Port.
func (s *Source) Offers() uint64 { return transmitOffloads | receiveOffloads }

// Turn implements netbackend.Port.
func (s *Source) Turn(now int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	s.swallow(tx)
	if s.rate == 0 {
		return len(tx), s.sendAll(now, rx)
	}
	return len(tx), s.sendDue(now, rx)
}

// RingsChanged implements netbackend.Port. No frame is due for a guest that is not there.
func (s *Source) RingsChanged(r netbackend.RingState) {
	if !r.Receive {
		s.last, s.rest, s.due = 0, 0, 0
	}
	s.receives = r.Receive
}

// sendAll sends what the guest has room for, and returns when the next turn is wanted.
func (s *Source) sendAll(now int64, rx *netbackend.RXWriter) (next int64) {
	if s.send(sourceBurst, rx) == sourceBurst {
		return now
	}
	return 0 // the guest's next buffers bring the next turn
}

// sendDue sends what the rate demands, and returns when the next turn is wanted. Frames that find no buffer are missed,
// not made up for.
func (s *Source) sendDue(now int64, rx *netbackend.RXWriter) (next int64) {
	if !s.receives {
		return 0
	}
	s.advance(now)
	want := min(s.due, sourceBurst)
	sent := uint64(s.send(int(want), rx))
	s.due -= sent
	if sent < want {
		s.counters.Missed += s.due
		s.due = 0
		return 0 // as above; frames become due meanwhile
	}
	if s.due > 0 {
		return now
	}
	return now + int64((second-s.rest+s.rate-1)/s.rate)
}

// advance finds out how many frames have become due.
func (s *Source) advance(now int64) {
	if s.last != 0 {
		hi, lo := bits.Mul64(uint64(now-s.last), s.rate)
		lo, carry := bits.Add64(lo, s.rest, 0)
		frames, rest := bits.Div64(hi+carry, lo, second) // hi is less than the rate, so it does not overflow
		s.due, s.rest = s.due+frames, rest
	}
	s.last = now
}

// send sends up to n frames and returns how many had room.
func (s *Source) send(n int, rx *netbackend.RXWriter) (sent int) {
	for sent < n {
		if run := s.sendRun(min(n-sent, netbackend.MaxFrames), rx); run > 0 {
			sent += run
			continue
		}
		binary.BigEndian.PutUint64(s.frame[sequenceAt:], s.counters.SentFrames)
		if !rx.Write(&s.plain, s.frame) {
			break
		}
		s.counters.SentFrames++
		s.counters.SentBytes += uint64(len(s.frame))
		sent++
	}
	return sent
}

// sendRun sends up to n frames into buffers that are each long enough, and returns how many of those there were.
func (s *Source) sendRun(n int, rx *netbackend.RXWriter) int {
	lease := rx.Reserve(netbackend.Request{Max: len(s.frame), Frames: n, Shape: netbackend.OnePiece})
	places := lease.Pieces()
	for i := range places {
		guestmem.Put(&places[i], s.frame)
		places[i].PutWord64(sequenceAt, bits.ReverseBytes64(s.counters.SentFrames+uint64(i)))
	}
	lease.CommitRun(s.run[:len(places)])
	s.counters.SentFrames += uint64(len(places))
	s.counters.SentBytes += uint64(len(places) * len(s.frame))
	return len(places)
}
