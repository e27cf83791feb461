package l2switch_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// plain are the features of a driver without offloads.
const plain = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf

// lan is a switch with guests, all on the test's thread.
type lan struct {
	t      testing.TB
	sw     *l2switch.Switch
	ports  []*l2switch.Port
	guests []*porttest.Guest
	sent   []uint64 // frames, by guest
}

func newLAN(t testing.TB, change func(*l2switch.Config)) *lan {
	cfg := l2switch.Default()
	if change != nil {
		change(&cfg)
	}
	sw, err := l2switch.New(cfg)
	require.NoError(t, err)
	return &lan{t: t, sw: sw}
}

// join connects a guest, whose number is returned. By default it is one with all offloads.
func (l *lan) join(cfg l2switch.PortConfig, opt porttest.Options) int {
	p, err := l.sw.NewPort(cfg)
	require.NoError(l.t, err)
	if opt.GatewayMAC == ([6]byte{}) {
		opt.GatewayMAC = macOf(99)
	}
	g := porttest.New(l.t, p, opt)
	g.MayBreakRules, g.MAC = true, macOf(len(l.guests))
	l.ports, l.guests, l.sent = append(l.ports, p), append(l.guests, g), append(l.sent, 0)
	return len(l.guests) - 1
}

// three connects three guests that are as most are.
func three(t testing.TB, change func(*l2switch.Config)) *lan {
	l := newLAN(t, change)
	for range 3 {
		l.join(l2switch.PortConfig{}, porttest.Options{})
	}
	return l
}

// macOf is the address of guest i.
func macOf(i int) [6]byte { return [6]byte{0x52, 0x54, 0, 0, 0, byte(i)} }

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ethernet returns a frame of n bytes of a made-up protocol.
func ethernet(to, from [6]byte, n int, tags ...uint16) []byte {
	b := append(append([]byte{}, to[:]...), from[:]...)
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0x00), tag)
	}
	b = append(b, 0x88, 0xb5)
	for i := len(b); i < n; i++ {
		b = append(b, byte(i*7+i>>8))
	}
	return b
}

// send lets guest i send frames, and all do what there is to do.
func (l *lan) send(i int, frames ...[]byte) {
	for _, f := range frames {
		l.guests[i].SendFrame(f)
	}
	l.sent[i] += uint64(len(frames))
	l.work()
}

func (l *lan) raw(i int, h vnet.Header, frame []byte, layout ...porttest.Layout) {
	l.guests[i].SendRaw(h, frame, layout...)
	l.sent[i]++
	l.work()
}

// work lets all guests work until nothing happens any more but by time.
func (l *lan) work() {
	for range 6 {
		for _, g := range l.guests {
			g.Work()
		}
	}
}

// run lets time pass for all guests, in small steps.
func (l *lan) run(d time.Duration) {
	for range 20 {
		for _, g := range l.guests {
			g.Advance(d / 20)
		}
		l.work()
	}
}

// got returns the frames that guest i has received since the last call.
func (l *lan) got(i int) (all [][]byte) {
	for _, f := range l.guests[i].Frames() {
		all = append(all, f.Bytes)
	}
	return all
}

// meet lets all guests be known to the switch.
func (l *lan) meet() {
	for i := range l.guests {
		l.send(i, ethernet(broadcast, macOf(i), 60))
	}
	for i := range l.guests {
		l.got(i)
	}
}

// settled checks that each frame that guests have sent was counted once.
func (l *lan) settled() {
	l.t.Helper()
	for i, p := range l.ports {
		c := p.Counters()
		require.Equal(l.t, l.sent[i], c.Sent+drops(c), "guest %d: %+v", i, c)
	}
}

// drops returns how many frames of the guest were dropped.
func drops(c l2switch.Counters) (n uint64) {
	for _, d := range counting.Describe(c) {
		if !d.Drop || d.Name == "discarded" || d.Name == "not_accepted" || d.Name == "too_long" {
			continue
		}
		for name, value := range counting.All(c) {
			if name == d.Name {
				n += value
			}
		}
	}
	return n
}
