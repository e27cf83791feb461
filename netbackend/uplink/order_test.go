package uplink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/virtqueue"
)

// pair are two guests of a switch, the first of which has frames for its router and for the second one, whose inbox has no more room
// for it.
type pair struct {
	a, b             *place
	toRouter, toPeer virtqueue.Chain
	now              int64
}

func newPair(t *testing.T) *pair {
	sw, err := l2switch.New(l2switch.Default())
	require.NoError(t, err)
	c := nat.DefaultConfig()
	c.ResolvConf = ""
	configs, err := c.ForGuests(2)
	require.NoError(t, err)
	p := &pair{a: newPlace(t, sw, configs[0]), b: newPlace(t, sw, configs[1]), now: 1e9}
	frame := func(to, from []byte) []byte {
		return append(append(append(append([]byte{}, to...), from...), 0x88, 0xb5), make([]byte, 46)...)
	}
	macA, macB := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	p.b.turn(p.now, []virtqueue.Chain{p.b.chain(frame([]byte{255, 255, 255, 255, 255, 255}, macB))})
	router := configs[0].GatewayMAC
	p.toRouter, p.toPeer = p.a.chain(frame(router[:], macA)), p.a.chain(frame(macB, macA))
	for range 2000 {
		if done, _ := p.a.turn(p.now, []virtqueue.Chain{p.toPeer}); done == 0 {
			return p
		}
	}
	t.Fatal("the inbox of the second guest is never full")
	return nil
}

// routed is how many frames the first guest's engine has got.
func (p *pair) routed() int { return int(p.a.Counters().NAT.Unsupported) }

// The engine gets what lies before the first frame that waits in the ring, and the rest when that is gone: nothing twice.
func TestChainsAreGivenBackInOrderAndNoneIsHandledTwice(t *testing.T) {
	p := newPair(t)
	tx := []virtqueue.Chain{p.toRouter, p.toPeer, p.toRouter, p.toPeer, p.toRouter}
	done, _ := p.a.turn(p.now, tx)
	require.Equal(t, 1, done, "the second one waits")
	require.Equal(t, 1, p.routed())
	p.now += 1e9 // nobody waits so long
	rest, _ := p.a.turn(p.now, tx[done:])
	require.Equal(t, 4, rest)
	require.Equal(t, 3, p.routed())
	require.EqualValues(t, 2, p.a.Counters().Switch.Full)
}

// A receiver that takes a frame just before nobody would wait for it any more holds up frames for the outside for a tenth of the time.
func TestASlowReceiverHoldsUpTheOutsideForATenthOfTheTime(t *testing.T) {
	p := newPair(t)
	const step, steps, takesEvery = 100e3, 5000, 18
	held := 0
	var left []virtqueue.Chain
	for i := range steps {
		p.now += step
		if i%takesEvery == 0 {
			p.b.posts = 1
			p.b.turn(p.now, nil)
		}
		if len(left) == 0 {
			left = []virtqueue.Chain{p.toPeer, p.toRouter}
		}
		done, _ := p.a.turn(p.now, left)
		if left = left[done:]; len(left) > 0 {
			held++
		}
	}
	require.NotZero(t, held)
	require.Less(t, held, steps*15/100)
}
