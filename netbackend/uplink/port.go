package uplink

import (
	"errors"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// batch is how many chains are looked at in a turn.
	batch = 128
	// maxEvents is how many events a turn brings, at most twice: a turn that a fault in guest memory ends leaves them to the next one.
	maxEvents = 256
)

// Counters are those of both parts.
type Counters struct {
	NAT    stats.Counters
	Switch l2switch.Counters
}

// Port is a guest's place on a switch with an engine of its own. It implements netbackend.Port and netbackend.Link.
type Port struct {
	lan    *l2switch.Port
	engine *nat.Port

	headerLen int
	router    router
	follows   *nat.Policy // by which router was made
	engine1st bool        // the engine fills the receive ring first, in this turn

	head   [headLen]byte
	own    [batch]virtqueue.Chain // for the engine
	ownAt  [batch]uint16          // where they are among all
	nOwn   int
	others [batch]virtqueue.Chain // for the switch
	at     [batch]uint16
	nOther int
	events [maxEvents]netbackend.Event // that the engine has not been told yet
	nEvent int
}

var (
	_ netbackend.Port = (*Port)(nil)
	_ netbackend.Link = (*Port)(nil)
)

// New connects the two parts, which are not started yet and are the Port's from here on. engine is of one queue pair. The error is that a
// guest of the switch is bound to the MAC address of the engine; then the caller closes both.
func New(lan *l2switch.Port, engine *nat.Port) (*Port, error) {
	p := &Port{lan: lan, engine: engine}
	return p, p.followPolicy()
}

// Engine returns the part that leads out of the switch. What its methods say of threads holds.
func (p *Port) Engine() *nat.Port { return p.engine }

// Counters returns what both parts have counted. It is for the worker's thread, or for anybody after Close.
func (p *Port) Counters() Counters { return Counters{p.engine.Counters(), p.lan.Counters()} }

// Offers implements netbackend.Port: what both parts do.
func (p *Port) Offers() uint64 { return p.lan.Offers() & p.engine.Offers() }

// EndsConnections implements netbackend.Endpoint, as the engine does. Frames of the switch wait in the guest's inbox meanwhile.
func (p *Port) EndsConnections() bool { return true }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.headerLen = vnet.HeaderLength(features)
	if err := p.lan.Start(features, w); err != nil {
		return err
	}
	return p.engine.Start(features, w)
}

// RingsChanged implements netbackend.Port.
func (p *Port) RingsChanged(s netbackend.RingState) {
	p.lan.RingsChanged(s)
	p.engine.RingsChanged(s)
}

// Close implements netbackend.Port.
func (p *Port) Close() error { return errors.Join(p.engine.Close(), p.lan.Close()) }

// SetMTU implements netbackend.Link: the switch carries frames of any size, and the engine follows netbackend.RingState.
func (p *Port) SetMTU(mtu int) error { return p.lan.SetMTU(mtu) }

// Announce implements netbackend.Link.
func (p *Port) Announce(mac [6]byte) error { return p.lan.Announce(mac) }

// Turn implements netbackend.Port.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	p.keep(events)
	if p.engine.Follows() != p.follows {
		_ = p.followPolicy() // whose MAC address is as before, and was taken
	}
	p.engine1st = !p.engine1st
	if !p.engine1st {
		next = p.lan.Receive(now, rx)
	}
	done = p.sort(tx)
	sent, at := p.lan.Send(now, p.others[:p.nOther], p.nOwn > 0)
	next = netbackend.Earlier(next, at)
	if sent < p.nOther {
		done = int(p.at[sent])
	}
	for p.nOwn > 0 && int(p.ownAt[p.nOwn-1]) >= done {
		p.nOwn--
	}
	n := p.nEvent
	p.nEvent = 0
	_, at = p.engine.Turn(now, p.own[:p.nOwn], p.events[:n], rx)
	next = netbackend.Earlier(next, at)
	if p.engine1st {
		next = netbackend.Earlier(next, p.lan.Receive(now, rx))
	}
	if done < len(tx) && sent == p.nOther {
		return done, now // there are more than a turn looks at, or the engine takes none now
	}
	return done, next
}

// keep adds events to those for the engine. The switch's own tell nothing but that there is a turn.
func (p *Port) keep(events []netbackend.Event) {
	for i := range events {
		if events[i].Token == l2switch.BellToken || p.nEvent == maxEvents {
			continue
		}
		p.events[p.nEvent] = events[i]
		p.nEvent++
	}
}

// sort puts chains into the lists of those who get them, and returns how many were looked at.
func (p *Port) sort(tx []virtqueue.Chain) int {
	p.nOwn, p.nOther = 0, 0
	takes := p.engine.TakesFrames()
	tx = tx[:min(len(tx), batch)]
	for i := range tx {
		whose := p.whose(&tx[i])
		if whose&forEngine != 0 {
			if !takes {
				return i
			}
			p.own[p.nOwn], p.ownAt[p.nOwn] = tx[i], uint16(i)
			p.nOwn++
		}
		if whose&forSwitch != 0 {
			p.others[p.nOther], p.at[p.nOther] = tx[i], uint16(i)
			p.nOther++
		}
	}
	return len(tx)
}
