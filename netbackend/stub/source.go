package stub

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/testframe"
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
)

// SourceConfig says what a Source sends.
type SourceConfig struct {
	Size  int    // of a frame, in bytes, from netbackend.MinFrame to what a buffer of the guest can be
	Sizes []int  // of frames in turn, if there are any, in the place of Size
	Rate  uint64 // frames per second; 0 for as many as the guest takes
	// Clock is the host's, in nanoseconds, which a Sink of another process has, too; nil is that of turns. It is asked once.
	Clock func() int64
	// Stream tells its frames from those of other sources; 0 is any number.
	Stream uint32
}

// Check tells what is wrong with c.
func (c SourceConfig) Check() error {
	if err := checkSizes(c.sizes()); err != nil {
		return err
	}
	if c.Rate > maxSourceRate {
		return fmt.Errorf("%d frames per second: want at most %d", c.Rate, uint64(maxSourceRate))
	}
	return nil
}

// sizes returns the lengths of frames.
func (c SourceConfig) sizes() []int {
	if len(c.Sizes) > 0 {
		return c.Sizes
	}
	return []int{c.Size}
}

// Source sends frames to the guest, and swallows what the guest sends. Its frames are broadcast ones of package testframe,
// numbered from 0 on. It checks those that come back, as a Sink does.
type Source struct {
	base
	tester
	rate uint64
	last int64  // with a rate: the time up to which frames were found to be due, 0 while the guest takes none
	rest uint64 // and what remained, in parts of a frame by rate and nanoseconds
	due  uint64 // frames that are due and not sent yet

	receives bool
	sizes    []sizeOfFrames // in turn
	turn     int            // the one of the next frame
	longest  int
	stream   uint32
	frame    []byte      // of the longest
	plain    vnet.Header // without offloads
	run      [netbackend.MaxFrames]netbackend.FrameMeta
}

// sizeOfFrames is a length of frames, with what their headers have of it in this turn.
type sizeOfFrames struct {
	length int
	word   uint64 // see testframe.StreamWord
	base   uint64 // see testframe.CheckBase
}

var _ netbackend.Port = (*Source)(nil)

// NewSource returns a Source of frames as c says.
func NewSource(c SourceConfig) (*Source, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Source{rate: c.Rate, longest: slices.Max(c.sizes()), stream: c.Stream}
	s.clock.host = c.Clock
	if s.stream == 0 {
		s.stream = rand.Uint32()
	}
	for _, n := range c.sizes() {
		s.sizes = append(s.sizes, sizeOfFrames{length: n, word: testframe.StreamWord(s.stream, n)})
	}
	s.frame = make([]byte, s.longest)
	copy(s.frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1})
	binary.BigEndian.PutUint16(s.frame[12:], testframe.EtherType)
	for i := range s.run {
		s.run[i].Len = uint32(s.longest)
	}
	return s, nil
}

// stamp makes the headers of frames those of a time.
func (s *Source) stamp(now int64) {
	binary.BigEndian.PutUint64(s.frame[testframe.StampAt:], uint64(now))
	binary.BigEndian.PutUint64(s.frame[testframe.StreamAt:], s.sizes[0].word)
	for i := range s.sizes {
		s.sizes[i].base = testframe.CheckBase(uint64(now), s.sizes[i].word)
	}
}

// Offers implements netbackend.Port.
func (s *Source) Offers() uint64 { return transmitOffloads | receiveOffloads }

// Turn implements netbackend.Port.
func (s *Source) Turn(now int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	time := s.clock.at(now)
	if len(tx) > 0 {
		s.test(&s.base, time, tx)
	}
	s.stamp(time)
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
		if !rx.Write(&s.plain, s.next()) {
			break
		}
		s.counters.SentBytes += uint64(s.sizes[s.turn].length)
		s.counters.SentFrames++
		s.turn = (s.turn + 1) % len(s.sizes)
		sent++
	}
	return sent
}

// next returns the frame that is to be sent next.
func (s *Source) next() []byte {
	size, number := &s.sizes[s.turn], s.counters.SentFrames
	b := s.frame[:size.length]
	binary.BigEndian.PutUint64(b[testframe.NumberAt:], number)
	binary.BigEndian.PutUint64(b[testframe.StreamAt:], size.word)
	binary.BigEndian.PutUint64(b[testframe.CheckAt:], testframe.Check(size.base, number))
	return b
}

// sendRun sends up to n frames into buffers that are each long enough, and returns how many of those there were.
func (s *Source) sendRun(n int, rx *netbackend.RXWriter) int {
	lease := rx.Reserve(netbackend.Request{Max: s.longest, Frames: n, Shape: netbackend.OnePiece})
	places := lease.Pieces()
	if len(s.sizes) > 1 {
		return s.sendMixed(lease, places)
	}
	base, number := s.sizes[0].base, s.counters.SentFrames
	for i := range places {
		place := &places[i]
		guestmem.Put(place, s.frame)
		place.PutWord64(testframe.NumberAt, bits.ReverseBytes64(number))
		place.PutWord64(testframe.CheckAt, bits.ReverseBytes64(testframe.Check(base, number)))
		number++
	}
	lease.CommitRun(s.run[:len(places)])
	s.counters.SentFrames += uint64(len(places))
	s.counters.SentBytes += uint64(len(places) * len(s.frame))
	return len(places)
}

// sendMixed is sendRun for frames of several lengths.
func (s *Source) sendMixed(lease netbackend.Lease, places []guestmem.Iovec) int {
	for i := range places {
		b := s.next()
		guestmem.Put(&places[i], b)
		s.run[i].Len = uint32(len(b))
		s.counters.SentFrames++
		s.counters.SentBytes += uint64(len(b))
		s.turn = (s.turn + 1) % len(s.sizes)
	}
	lease.CommitRun(s.run[:len(places)])
	return len(places)
}
