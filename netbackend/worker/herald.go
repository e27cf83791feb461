package worker

import (
	"log/slog"
	"strconv"
	"time"

	"github.com/vringnet/vring/netbackend"
)

const (
	// repeatInterval is how often a notice is handed on that is raised again and again.
	repeatInterval = 10 * time.Second
	// maxHeard is how many different messages are told apart in that time. No Port has that many, though a guest may
	// have a say in some: what it was denied stands in the message.
	maxHeard = 128
)

// herald hands on what Ports raise, from a goroutine of its own. What a guest can cause again and again must not fill the
// host's log: a message is handed on at once when it is new, and then once in repeatInterval, with the number of those
// like it that were left out. So is the number of all others that were lost.
type herald struct {
	device *Device
	hand   func(netbackend.Notice)
	heard  map[string]*repeated // by message, those of the present interval
	lost   uint64               // of those that were lost, how many were told
	tick   <-chan time.Time     // nil if there is nothing to be told later
	ticker *time.Ticker
}

// repeated is a message that was handed on.
type repeated struct {
	last netbackend.Notice
	more uint64 // that were raised since
}

func newHerald(d *Device, hand func(netbackend.Notice)) *herald {
	return &herald{device: d, hand: hand, heard: map[string]*repeated{}}
}

// run lasts until Close.
func (h *herald) run() {
	for {
		select {
		case n, open := <-h.device.notices:
			if !open {
				h.summarize()
				h.rest()
				return
			}
			h.hear(n)
		case <-h.tick:
			h.summarize()
		}
	}
}

// hear hands a new message on, and remembers others for later.
func (h *herald) hear(n netbackend.Notice) {
	if h.tick == nil {
		h.ticker = time.NewTicker(repeatInterval)
		h.tick = h.ticker.C
	}
	if r := h.heard[n.Message]; r != nil {
		r.last = n
		r.more++
		return
	}
	if len(h.heard) == maxHeard {
		h.device.lost.Add(1)
		return
	}
	h.heard[n.Message] = &repeated{}
	h.hand(n)
}

// summarize tells how often messages were repeated in the interval that has ended. Those that were not are forgotten, and
// new when they come again.
func (h *herald) summarize() {
	for message, r := range h.heard {
		if r.more == 0 {
			delete(h.heard, message)
			continue
		}
		r.last.More = r.more - 1 // beside the one that is handed on
		h.hand(r.last)
		*r = repeated{}
	}
	if lost := h.device.lost.Load(); lost > h.lost {
		h.hand(netbackend.Notice{
			Level: int(slog.LevelWarn), Message: "notices were dropped, too many came at once",
			Key: "dropped", Value: strconv.FormatUint(lost-h.lost, 10),
		})
		h.lost = lost
	}
	if len(h.heard) == 0 {
		h.rest()
	}
}

// rest stops the ticker: a quiet guest costs nothing.
func (h *herald) rest() {
	if h.ticker != nil {
		h.ticker.Stop()
	}
	h.tick = nil
}
