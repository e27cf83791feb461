package daemon

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/netbackend/capture/filter"
	"github.com/vringnet/vring/netbackend/capture/pcap"
	"github.com/vringnet/vring/netbackend/capture/pcapng"
)

const (
	// maxGuestCaptures is how many captures of a guest there are at once, and MaxCaptures how many of all guests.
	maxGuestCaptures = 2
	MaxCaptures      = 4
	// captureMemory is what a capture has for frames that were not read yet, in bytes, divided among the guest's queue pairs.
	captureMemory = 16 << 20
	// captureInterval is how long a capture waits for frames before it looks again.
	captureInterval = 10 * time.Millisecond
	// captureBatch is how many bytes are written at a time.
	captureBatch = 256 << 10
	// tellInterval is how often a capture tells what it has missed, if that has become more.
	tellInterval = time.Second
)

// TooManyCapturesError is that there is no room for another capture.
type TooManyCapturesError struct{ Guest string } // "" if it is not this guest's alone

func (e *TooManyCapturesError) Error() string {
	if e.Guest == "" {
		return fmt.Sprintf("%d captures are running, and there are no more at a time; end one", MaxCaptures)
	}
	return fmt.Sprintf("%d captures of guest %s are running, and there are no more at a time; end one", maxGuestCaptures, e.Guest)
}

// CaptureOptions say what is captured.
type CaptureOptions struct {
	Filter     filter.Program
	FilterText string // of Filter
	SnapLen    int    // bytes of a frame
	Cut        bool   // frames that stand for many segments are cut into them
	Packets    uint64 // after which the capture ends; 0 for no end
	Plain      bool   // a file of pcap is written, which tells nothing of queue pairs, directions and what was missed; else one of pcapng
}

// Capture is a capture of one guest. Run is called once, by one goroutine.
type Capture struct {
	daemon  *Daemon
	guest   *served
	options CaptureOptions
	taps    []*capture.Tap // one for each queue pair
	began   time.Time
	at      int64           // began, by the device's clock, in nanoseconds
	over    context.Context // ends when the guest is removed
	end     context.CancelFunc

	out     []byte
	frame   capture.Frame
	cutter  *capture.Cutter // nil if nothing is cut
	packets uint64          // written
	told    uint64          // frames missed, as told last
	toldAt  time.Time
}

// Capture begins a capture of a guest. It holds up nobody: what the caller does not write in time is missed, and counted. Any
// goroutine may call it between Open and the end of Serve. The error is a NoGuestError or a TooManyCapturesError.
func (d *Daemon) Capture(guest string, o CaptureOptions) (*Capture, error) {
	s, err := d.find(guest)
	if err != nil {
		return nil, err
	}
	d.capturing.Lock()
	defer d.capturing.Unlock()
	if err := d.roomForCapture(s); err != nil {
		return nil, err
	}
	c := &Capture{daemon: d, guest: s, options: o, began: time.Now(), at: s.device.Now()}
	c.over, c.end = context.WithCancel(context.Background())
	if o.Cut {
		c.cutter = new(capture.Cutter)
	}
	for range s.ports {
		t, err := capture.NewTap(capture.Options{Filter: o.Filter, SnapLen: o.SnapLen, Memory: tapMemory(len(s.ports))})
		if err != nil {
			return nil, err
		}
		c.taps = append(c.taps, t)
	}
	s.captures = append(s.captures, c)
	s.setHooks()
	return c, nil
}

// roomForCapture returns why there cannot be another capture of a guest. The caller holds capturing.
func (d *Daemon) roomForCapture(s *served) error {
	all := 0
	for _, other := range d.all() {
		all += len(other.captures)
	}
	switch {
	case len(s.captures) >= maxGuestCaptures:
		return &TooManyCapturesError{s.name}
	case all >= MaxCaptures:
		return &TooManyCapturesError{}
	}
	return nil
}

// tapMemory is the share of captureMemory that each of so many queue pairs has: a power of two.
func tapMemory(pairs int) int {
	return max(captureMemory>>bits.Len(uint(pairs-1)), capture.MinMemory)
}

// find finds a guest.
func (d *Daemon) find(name string) (*served, error) {
	var names []string
	for _, s := range d.all() {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return nil, &NoGuestError{name, names}
}

// setHooks gives the guest's threads the taps of all captures. The caller holds capturing.
func (s *served) setHooks() {
	for pair := range s.ports {
		var taps []*capture.Tap
		for _, c := range s.captures {
			taps = append(taps, c.taps[pair])
		}
		s.device.SetCapture(pair, capture.NewHook(taps))
	}
}

// Close ends a capture, if it has not ended. What Run has not written is gone. The guest's threads have let go of its memory then, or do so with
// their next turn.
func (c *Capture) Close() {
	if c.leave() {
		_ = c.guest.device.AdoptCaptures() // a thread that is stuck keeps what it has
	}
}

// endCaptures ends all captures of a guest that is not served any more.
func (d *Daemon) endCaptures(s *served) {
	d.capturing.Lock()
	all := slices.Clone(s.captures)
	d.capturing.Unlock()
	for _, c := range all {
		c.end()
	}
}

// leave takes the capture out of its guest's, and reports whether it was there.
func (c *Capture) leave() bool {
	c.daemon.capturing.Lock()
	defer c.daemon.capturing.Unlock()
	i := slices.Index(c.guest.captures, c)
	if i < 0 {
		return false
	}
	c.guest.captures = slices.Delete(c.guest.captures, i, i+1)
	c.guest.setHooks()
	return true
}

// Packets returns how many packets were written, and Missed how many frames were not for want of room. They are for the goroutine of Run.
func (c *Capture) Packets() uint64 { return c.packets }

// Missed is explained at Packets.
func (c *Capture) Missed() (n uint64) {
	for _, t := range c.taps {
		n += t.Missed()
	}
	return n
}

// Run writes the capture as a file of pcapng, or pcap, and closes it, until ctx ends, enough packets were written, or write returns an error, which is returned. What was
// captured until ctx ended is still written, and how much was missed.
func (c *Capture) Run(ctx context.Context, write func([]byte) error) error {
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.over, cancel)()
	c.begin()
	ticker := time.NewTicker(captureInterval)
	defer ticker.Stop()
	for {
		if err := c.drain(write); err != nil {
			return err
		}
		if c.isFull() || ctx.Err() != nil {
			c.tell()
			return c.flush(write)
		}
		c.tellIfDue()
		if err := c.flush(write); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			c.Close() // what the threads have captured until now is all
		}
	}
}

// begin writes what stands at the beginning of a file.
func (c *Capture) begin() {
	if c.options.Plain {
		c.out = pcap.AppendHeader(c.out, c.options.SnapLen)
		return
	}
	c.out = pcapng.AppendSection(c.out, "vring")
	for pair := range c.taps {
		c.out = pcapng.AppendInterface(c.out, &pcapng.InterfaceInfo{
			Name:        fmt.Sprintf("%s queue %d", c.guest.name, pair),
			Description: fmt.Sprintf("network of guest %s, queue pair %d; inbound is to the guest", c.guest.name, pair),
			Filter:      c.options.FilterText, SnapLen: c.options.SnapLen,
		})
	}
}

// isFull reports whether enough packets were written.
func (c *Capture) isFull() bool { return c.options.Packets != 0 && c.packets >= c.options.Packets }

// drain writes the frames that there are, those of all queue pairs in the order of their times.
func (c *Capture) drain(write func([]byte) error) error {
	for !c.isFull() {
		pair := c.oldest()
		if pair < 0 {
			return nil
		}
		c.append(pair)
		c.taps[pair].Drop()
		if len(c.out) >= captureBatch {
			if err := c.flush(write); err != nil {
				return err
			}
		}
	}
	return nil
}

// oldest returns the queue pair with the oldest frame, and leaves that in c.frame; -1 if there is none.
func (c *Capture) oldest() int {
	found := -1
	for pair, t := range c.taps {
		var f capture.Frame
		if t.Peek(&f) && (found < 0 || f.Time < c.frame.Time) {
			found, c.frame = pair, f
		}
	}
	return found
}

// append appends c.frame, whole or in segments.
func (c *Capture) append(pair int) {
	put := func(data []byte, length int) {
		if c.isFull() {
			return
		}
		c.packets++
		at, data := c.began.Add(time.Duration(c.frame.Time-c.at)), data[:min(len(data), c.options.SnapLen)]
		if c.options.Plain {
			c.out = pcap.AppendPacket(c.out, at, length, data)
			return
		}
		c.out = pcapng.AppendPacket(c.out, &pcapng.PacketInfo{Interface: pair, Time: at, Inbound: c.frame.ToGuest, Length: length, Data: data})
	}
	if c.cutter != nil && c.cutter.Cut(&c.frame, put) {
		return
	}
	c.frame.Complete()
	put(c.frame.Data, c.frame.Length)
}

// tellIfDue tells what was missed, if that is news, but not too often.
func (c *Capture) tellIfDue() {
	if now := time.Now(); c.Missed() != c.told && now.Sub(c.toldAt) >= tellInterval {
		c.tell()
		c.toldAt = now
	}
}

// tell writes what was counted.
func (c *Capture) tell() {
	c.told = c.Missed()
	if c.options.Plain {
		return // it has no place for that
	}
	for pair, t := range c.taps {
		missed := t.Missed()
		c.out = pcapng.AppendStatistics(c.out, &pcapng.StatisticsInfo{
			Interface: pair, Time: time.Now(), Received: t.Captured() + missed, Dropped: missed,
		})
	}
}

// flush writes what was appended.
func (c *Capture) flush(write func([]byte) error) error {
	if len(c.out) == 0 {
		return nil
	}
	err := write(c.out)
	c.out = c.out[:0]
	return err
}
