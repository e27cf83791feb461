package l2switch_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/porttest"
)

// stuck connects three guests, of which guest 1 posts no buffers beyond its first 16, and fills its inbox from guest 0.
func stuck(t *testing.T) *lan {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{RingSize: 16})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.meet()
	l.guests[1].Withhold = true
	for range 16 {
		l.send(0, ethernet(macOf(1), macOf(0), 60))
	}
	require.NotEmpty(t, l.got(1))
	for l.ports[0].Counters().Waits == 0 {
		l.send(0, ethernet(macOf(1), macOf(0), 60))
	}
	return l
}

func TestAFrameWaitsForAReceiverWithoutRoom(t *testing.T) {
	l := stuck(t)
	before := l.ports[0].Counters()
	require.Zero(t, before.Full)
	l.guests[1].Post(16)
	l.work()
	require.Len(t, l.got(1), 16)
	after := l.ports[0].Counters()
	require.Equal(t, before.Sent+1, after.Sent, "there was room before the time was over")
	require.Zero(t, after.Full)
	l.settled()
}

func TestAFrameIsDroppedThatHasWaitedTooLong(t *testing.T) {
	l := stuck(t)
	l.run(1900 * time.Microsecond)
	require.Zero(t, l.ports[0].Counters().Full)
	l.run(200 * time.Microsecond)
	require.EqualValues(t, 1, l.ports[0].Counters().Full)
	waits := l.ports[0].Counters().Waits
	for range 20 {
		l.send(0, ethernet(macOf(1), macOf(0), 60))
	}
	require.EqualValues(t, 21, l.ports[0].Counters().Full, "nobody waits again for who has taken nothing since")
	require.Equal(t, waits, l.ports[0].Counters().Waits)

	l.guests[1].Post(1)
	l.work()
	for l.ports[0].Counters().Waits == waits {
		l.send(0, ethernet(macOf(1), macOf(0), 60))
	}
	require.EqualValues(t, 21, l.ports[0].Counters().Full, "it has taken something")
	l.run(3 * time.Millisecond)
	l.settled()
}

func TestFramesForOthersWaitNoLongerThanThat(t *testing.T) {
	l := stuck(t)
	l.guests[0].SendFrame(ethernet(macOf(2), macOf(0), 60))
	l.sent[0]++
	l.work()
	require.Empty(t, l.got(2))
	l.run(2100 * time.Microsecond)
	require.Len(t, l.got(2), 1)
	for range 10 {
		l.send(0, ethernet(macOf(1), macOf(0), 60), ethernet(macOf(2), macOf(0), 60))
	}
	require.Len(t, l.got(2), 10, "at once")
	l.settled()
}

// A receiver that takes less than it is sent, but takes something again and again, holds up frames for others for a tenth of the
// time.
func TestAReceiverThatIsSlowHoldsUpOthersForATenthOfTheTime(t *testing.T) {
	l := stuck(t)
	l.run(3 * time.Millisecond)
	const steps, each = 400, 3
	late := 0
	for range steps {
		for range each {
			l.guests[0].SendFrame(ethernet(macOf(1), macOf(0), 60))
		}
		l.guests[0].SendFrame(ethernet(macOf(2), macOf(0), 60))
		l.sent[0] += each + 1
		l.guests[1].Post(1)
		l.work()
		if len(l.got(2)) == 0 {
			late++
		}
		for _, g := range l.guests {
			g.Advance(time.Millisecond)
		}
		l.work()
	}
	l.run(10 * time.Millisecond)
	require.NotZero(t, late)
	require.LessOrEqual(t, late, steps/5)
	l.settled()
}

func TestFramesToManyWaitForNobody(t *testing.T) {
	l := stuck(t)
	l.run(3 * time.Millisecond)
	waits := l.ports[0].Counters().Waits
	l.send(0, ethernet(broadcast, macOf(0), 60))
	require.Len(t, l.got(2), 1)
	require.EqualValues(t, 1, l.ports[0].Counters().CopiesLost)
	require.Equal(t, waits, l.ports[0].Counters().Waits)
	l.settled()
}

// One sender leaves half of an inbox to others.
func TestASenderLeavesRoomForOthers(t *testing.T) {
	l := stuck(t)
	require.EqualValues(t, 1, l.ports[0].Counters().Waits)
	for range 100 {
		l.send(2, ethernet(macOf(1), macOf(2), 60))
	}
	require.Zero(t, l.ports[2].Counters().Waits)
	l.run(3 * time.Millisecond)
	l.settled()
}

func TestNobodyWaitsForAGuestThatTakesNoFrames(t *testing.T) {
	l := three(t, nil)
	l.meet()
	l.guests[1].StopRings(netbackend.RingState{Connected: true, Transmit: true})
	l.send(0, ethernet(macOf(1), macOf(0), 60), ethernet(macOf(2), macOf(0), 60), ethernet(broadcast, macOf(0), 60))
	require.Len(t, l.got(2), 2)
	c := l.ports[0].Counters()
	require.Equal(t, []uint64{1, 0, 0}, []uint64{c.Unreached, c.Waits, c.CopiesLost})
	l.guests[1].Reconnect(false)
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(1), 1)
	l.settled()
}

func TestFramesThatWaitForAGuestEndWithItsRing(t *testing.T) {
	l := stuck(t)
	l.guests[1].StopRings(netbackend.RingState{Connected: true})
	l.work()
	require.NotZero(t, l.ports[1].Counters().Discarded)
	require.EqualValues(t, 1, l.ports[0].Counters().Unreached, "the one that waited need not any more")
	l.guests[1].Withhold = false
	l.guests[1].Reconnect(true)
	l.guests[1].Post(16)
	l.work()
	require.Empty(t, l.got(1), "nothing of before")
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(1), 1)
	l.settled()
}

func TestAGuestThatIsGoneIsForgotten(t *testing.T) {
	l := three(t, nil)
	l.meet()
	l.guests[1].Disconnect()
	require.Zero(t, l.ports[1].Addresses())
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(2), 1, "who is not known is looked for")
	l.guests[1].Stop()
	l.guests[1] = l.guests[0]
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(2), 1)
	l.settled()
}

// What a guest is told by SEND_RARP holds before it sends anything.
func TestAGuestThatIsAnnouncedIsKnown(t *testing.T) {
	l := three(t, nil)
	l.guests[1].Turn()
	require.NoError(t, l.ports[1].Announce(macOf(1)))
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(1), 1)
	require.Empty(t, l.got(2))
	require.Error(t, l.ports[1].Announce([6]byte{1}))
	require.NoError(t, l.ports[1].SetMTU(9000))
}

func TestAStalledReceiverCostsNoTurns(t *testing.T) {
	l := stuck(t)
	l.run(3 * time.Millisecond)
	before := []int{l.guests[0].Turns(), l.guests[1].Turns()}
	l.run(time.Second)
	require.Equal(t, before, []int{l.guests[0].Turns(), l.guests[1].Turns()})
}
