package netem

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"
)

// Link is how a link is. The zero value is one that is not emulated: frames pass as they come.
type Link struct {
	Out Direction // from the guest to its network
	In  Direction // from the network to the guest
	// Seed is where chance begins: the same frames at the same times meet with the same. 0 is another one each time.
	Seed uint64
}

// IsZero reports whether nothing is emulated.
func (l Link) IsZero() bool { return l.Out == Direction{} && l.In == Direction{} }

// Share is a part of frames, in billionths.
type Share uint32

// whole is the share of all frames.
const whole = Share(1e9)

// Direction is one way of a link. The zero value changes nothing.
type Direction struct {
	Rate uint64 // bits per second of Ethernet frames without preamble and check sequence; 0 is no limit
	// Burst is how many bytes pass at once after a silence, before the rate holds.
	Burst int

	Delay  time.Duration // from when a frame has left the queue to when it is there
	Jitter time.Duration // by how much the delay of a frame differs from Delay at most. Frames keep their order.

	Loss      Share // of frames that are lost on the way
	LossBurst int   // how many frames are lost in a row, on average; 0 and 1 leave that to chance
	// Gilbert is another model of loss, instead of Loss.
	Gilbert GilbertElliott

	Duplicate Share         // of frames of which there is a copy, behind them
	Corrupt   Share         // of frames in which one bit is another one
	Reorder   Share         // of frames that are late, so that later ones overtake them
	ReorderBy time.Duration // how late; 0 is DefaultReorderBy

	Queue      int // how many frames wait for the line at most; 0 is DefaultQueue
	QueueBytes int // and how many bytes; 0 is Queue times the longest frame of an MTU of 1500
}

// GilbertElliott is a model of loss with a good and a bad state (Gilbert 1960, Elliott 1963). Before each frame the state may change. The zero
// value loses nothing.
type GilbertElliott struct {
	ToBad, ToGood Share // chances that the good state ends, and the bad one
	Bad, Good     Share // shares of frames that are lost in either state
}

const (
	// DefaultQueue is the length of a queue in frames: that of Linux's netem, and of its network devices.
	DefaultQueue = 1000
	// DefaultReorderBy is how late a reordered frame is.
	DefaultReorderBy = 10 * time.Millisecond

	minRate, maxRate   = 1_000, 100_000_000_000
	maxDelay           = time.Minute
	maxReorderBy       = 10 * time.Second
	maxBurst           = 64 << 20
	maxLossBurst       = 1000
	maxQueue           = 100_000
	minQueueBytes      = 2048
	maxQueueBytes      = 64 << 20
	usualFrame         = 1518 // bytes: an MTU of 1500 behind an Ethernet header with a VLAN tag
	maxStore           = 64 << 20
	storeWithoutRate   = 16 << 20
	secondsToNanos     = uint64(time.Second)
	bitsOfByte         = 8
	decimalsOfPercent  = 7
	shareOfOnePercent  = whole / 100
	maxTextLen         = 1024
	maxUnknownInErrors = 40
)

// Check returns all that is wrong with the link.
func (l Link) Check() error {
	errs := multierror.Append(nil, l.Out.check("out:"), l.In.check("in:"))
	if l.Out == l.In {
		errs = multierror.Append(nil, l.Out.check(""))
	}
	errs.ErrorFormat = oneLine
	return errs.ErrorOrNil()
}

// oneLine lists faults in one line, as they stand in a message about the link.
func oneLine(errs []error) string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// check returns all that is wrong with a direction. way is what stands before its keys.
func (d *Direction) check(way string) error {
	var errs *multierror.Error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = multierror.Append(errs, fmt.Errorf(way+format, args...))
		}
	}
	wrong(d.Rate != 0 && (d.Rate < minRate || d.Rate > maxRate), "rate=%s: want 1kbit to 100gbit", rateText(d.Rate))
	wrong(d.Burst < 0 || d.Burst > maxBurst, "burst=%d: want 0 to %s", d.Burst, bytesText(maxBurst))
	wrong(d.Burst != 0 && d.Rate == 0, "burst=%s needs a rate; write rate=10mbit, say", bytesText(d.Burst))
	wrong(d.Delay < 0 || d.Delay > maxDelay, "delay=%v: want 0s to %v", d.Delay, maxDelay)
	wrong(d.Jitter < 0 || d.Jitter > d.Delay, "jitter=%v is more than delay=%v, and no frame is there before it was sent; write a longer delay", d.Jitter, d.Delay)
	for _, s := range []struct {
		key   string
		share Share
	}{{"loss", d.Loss}, {"duplicate", d.Duplicate}, {"corrupt", d.Corrupt}, {"reorder", d.Reorder},
		{"gemodel", max(d.Gilbert.ToBad, d.Gilbert.ToGood, d.Gilbert.Bad, d.Gilbert.Good)}} {
		wrong(s.share > whole, "%s=%s: want 0%% to 100%%", s.key, s.share)
	}
	wrong(d.LossBurst < 0 || d.LossBurst > maxLossBurst, "loss-burst=%d: want 1 to %d frames", d.LossBurst, maxLossBurst)
	wrong(d.LossBurst > 1 && (d.Loss == 0 || d.Loss >= whole), "loss-burst=%d needs a loss between 0%% and 100%%; write loss=1%%, say", d.LossBurst)
	wrong(d.LossBurst > 1 && d.Loss < whole && uint64(d.Loss) > uint64(whole-d.Loss)*uint64(max(d.LossBurst, 1)),
		"loss=%s with loss-burst=%d cannot be: frames between two losses would be less than one; write a longer loss-burst", d.Loss, d.LossBurst)
	wrong(d.Gilbert != GilbertElliott{} && d.Loss != 0, "loss and gemodel exclude each other; write one of them")
	wrong(d.Gilbert != GilbertElliott{} && d.Gilbert.ToBad == 0, "gemodel=%s never gets bad; write a first chance above 0%%", d.Gilbert)
	wrong(d.ReorderBy < 0 || d.ReorderBy > maxReorderBy, "reorder-by=%v: want 0s to %v", d.ReorderBy, maxReorderBy)
	wrong(d.ReorderBy != 0 && d.Reorder == 0, "reorder-by=%v needs a share of frames; write reorder=1%%, say", d.ReorderBy)
	wrong(d.Queue < 0 || d.Queue > maxQueue, "queue=%d: want 1 to %d frames", d.Queue, maxQueue)
	wrong(d.QueueBytes < 0 || d.QueueBytes != 0 && (d.QueueBytes < minQueueBytes || d.QueueBytes > maxQueueBytes), "queue-bytes=%d: want %d to %s", d.QueueBytes, minQueueBytes, bytesText(maxQueueBytes))
	wrong((d.Queue != 0 || d.QueueBytes != 0) && d.Rate == 0, "a queue needs a rate, since frames wait for nothing else; write rate=10mbit, say")
	if errs == nil && d.Rate != 0 {
		wrong(d.flight() > maxStore, "rate=%s for %v, with the queue, is %d MiB under way, and %d is the most; write a lower rate, a shorter delay or a shorter queue",
			rateText(d.Rate), d.longest(), d.flight()>>20, maxStore>>20)
	}
	return errs.ErrorOrNil()
}

// longest is the longest time that a frame is under way behind the queue.
func (d *Direction) longest() time.Duration { return d.Delay + d.Jitter + d.reorderBy() }

// flight is how many bytes can be under way at once, in the queue and behind it, with a rate.
func (d *Direction) flight() int {
	high, low := bits.Mul64(d.Rate/bitsOfByte, uint64(d.longest()))
	behind, _ := bits.Div64(high, low, secondsToNanos) // a rate has 37 bits and a time 37: high is small
	return int(behind) + d.Burst + d.queueBytes()
}

// reorderBy is how late a reordered frame is.
func (d *Direction) reorderBy() time.Duration {
	if d.Reorder != 0 && d.ReorderBy == 0 {
		return DefaultReorderBy
	}
	return d.ReorderBy
}

// queue is how many frames wait for the line at most.
func (d *Direction) queue() int {
	if d.Queue == 0 {
		return DefaultQueue
	}
	return d.Queue
}

// queueBytes is how many bytes wait for the line at most.
func (d *Direction) queueBytes() int {
	if d.QueueBytes == 0 {
		return min(d.queue()*usualFrame, maxQueueBytes)
	}
	return d.QueueBytes
}

// storeBytes is how many bytes of frames are kept.
func (d *Direction) storeBytes() int {
	if d.Rate == 0 {
		if d.longest() == 0 {
			return minStore
		}
		return storeWithoutRate
	}
	return max(d.flight(), minStore)
}

// minStore has room for what one turn brings, whatever is emulated.
const minStore = 2 << 20
