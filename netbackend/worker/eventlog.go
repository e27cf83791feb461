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
	// maxRecent is how many different messages are told apart in that time. No Port has that many, though a guest may
	// have a say in some: what it was denied stands in the message.
	maxRecent = 128
)

// eventlog hands on what Ports raise, from a goroutine of its own. What a guest can cause again and again must not fill the
// host's log: a message is handed on at once when it is new, and then once in repeatInterval, with the number of those
// like it that were left out. So is the number of all others that were lost.
type eventlog struct {
	device   *Device
	sink     func(netbackend.Notice)
	recent   map[string]*repeated // by message, those of the present interval
	reported uint64               // of those that were lost, how many were told
	tick     <-chan time.Time     // nil if there is nothing to be told later
	ticker   *time.Ticker
}

// repeated is a message that was handed on.
type repeated struct {
	last netbackend.Notice
	more uint64 // that were raised since
}

func newEventlog(d *Device, sink func(netbackend.Notice)) *eventlog {
	return &eventlog{device: d, sink: sink, recent: map[string]*repeated{}}
}

// run lasts until Close.
func (l *eventlog) run() {
	for {
		select {
		case n, open := <-l.device.notices:
			if !open {
				l.summarize()
				l.rest()
				return
			}
			l.record(n)
		case <-l.tick:
			l.summarize()
		}
	}
}

// record hands a new message on, and remembers others for later.
func (l *eventlog) record(n netbackend.Notice) {
	if l.tick == nil {
		l.ticker = time.NewTicker(repeatInterval)
		l.tick = l.ticker.C
	}
	if r := l.recent[n.Message]; r != nil {
		r.last = n
		r.more++
		return
	}
	if len(l.recent) == maxRecent {
		l.device.lost.Add(1)
		return
	}
	l.recent[n.Message] = &repeated{}
	l.sink(n)
}

// summarize tells how often messages were repeated in the interval that has ended. Those that were not are forgotten, and
// new when they come again.
func (l *eventlog) summarize() {
	for message, r := range l.recent {
		if r.more == 0 {
			delete(l.recent, message)
			continue
		}
		r.last.More = r.more - 1 // beside the one that is handed on
		l.sink(r.last)
		*r = repeated{}
	}
	if lost := l.device.lost.Load(); lost > l.reported {
		l.sink(netbackend.Notice{
			Level: int(slog.LevelWarn), Message: "notices were dropped, too many came at once",
			Key: "dropped", Value: strconv.FormatUint(lost-l.reported, 10),
		})
		l.reported = lost
	}
	if len(l.recent) == 0 {
		l.rest()
	}
}

// rest stops the ticker: a quiet guest costs nothing.
func (l *eventlog) rest() {
	if l.ticker != nil {
		l.ticker.Stop()
	}
	l.tick = nil
}
