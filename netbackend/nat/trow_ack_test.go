package nat_test

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// conversation is a connection on which the guest asks lines, and the host answers by "yes".
type conversation struct {
	*bench
	c    *porttest.TCP
	host *net.TCPConn
	in   *bufio.Reader
}

func newConversation(t *testing.T) *conversation {
	b := newBench(t, setup{})
	c, host := b.connect()
	return &conversation{b, c, host, bufio.NewReader(host)}
}

// ask makes the host hear a question. The engine's clock stands still meanwhile.
func (v *conversation) ask() {
	v.t.Helper()
	v.c.Send([]byte("question\n"))
	v.Settle()
	_, err := v.in.ReadString('\n')
	require.NoError(v.t, err)
}

// answer makes the guest hear an answer. It returns how many segments without data the engine has sent since before.
func (v *conversation) answer(before int) (bare int) {
	v.t.Helper()
	write(v.t, v.host, []byte("yes"))
	v.Settle()
	require.Equal(v.t, "yes", string(v.c.Read()))
	return v.bare() - before
}

// bare counts the segments without data that the guest got.
func (v *conversation) bare() (n int) {
	for i := range v.c.Segments {
		if v.c.Segments[i].Flags&porttest.PSH == 0 {
			n++
		}
	}
	return n
}

func (v *conversation) round() (bare int) {
	before := v.bare()
	v.ask()
	return v.answer(before)
}

func TestT30AnswersCarryTheAcknowledgement(t *testing.T) {
	v := newConversation(t)
	for range 4 {
		v.round()
	}
	for range 10 {
		require.Zero(t, v.round(), "an acknowledgement of its own costs the guest an interrupt")
	}
}

func TestT30AnAcknowledgementDoesNotWaitLongForAnAnswer(t *testing.T) {
	v := newConversation(t)
	for range 5 {
		v.round()
	}
	start := v.Now()
	v.ask()
	v.Skip("it is acknowledged", func() bool { return v.c.SndUna == v.c.SndMax })
	require.LessOrEqual(t, time.Duration(v.Now()-start), 20*time.Millisecond)

	v.answer(0)
	for range 5 {
		v.ask()
		require.Equal(t, v.c.SndMax, v.c.SndUna, "where answers do not come in time, nothing waits for them")
		v.answer(0)
	}
}

func TestT30TheSecondPartOfAQuestionIsAcknowledgedAtOnce(t *testing.T) {
	v := newConversation(t)
	for range 5 {
		v.round()
	}
	v.ask()
	require.NotEqual(t, v.c.SndMax, v.c.SndUna, "the first waits for an answer")
	v.ask()
	require.Equal(t, v.c.SndMax, v.c.SndUna)
	v.Run(time.Second)
	require.Equal(t, porttest.Open, v.c.State)
}

func TestT30LongDataAndTheEndAreAcknowledgedAtOnce(t *testing.T) {
	v := newConversation(t)
	for range 5 {
		v.round()
	}
	v.c.Send(noise(3000))
	v.Settle()
	require.Equal(t, v.c.SndMax, v.c.SndUna)
	v.c.Close()
	v.Until("the end is acknowledged", func() bool { return v.c.FinAcked })
}

// A closed window of the guest is probed though an acknowledgement was waiting.
func TestT21AnAcknowledgementThatWaitsDoesNotHideAClosedWindow(t *testing.T) {
	v := newConversation(t)
	for range 5 {
		v.round()
	}
	v.c.Window = 0
	v.ask()
	write(t, v.host, []byte("yes"))
	v.Settle()
	v.c.Window = 1000 // nobody tells it
	v.Skip("a probe comes", func() bool { return len(v.c.Received()) == 3 })
}

func TestT29WhatTheGuestDoesNotOfferIsNotUsed(t *testing.T) {
	for name, test := range map[string]struct {
		opt    porttest.TCPOptions
		scale  int
		sacks  bool
		config uint8
	}{
		"nothing":  {porttest.TCPOptions{}, -1, false, 7},
		"windows":  {porttest.TCPOptions{WScale: 14}, 7, false, 7},
		"SACK":     {porttest.TCPOptions{SACK: true}, -1, true, 7},
		"both":     {porttest.TCPOptions{SACK: true, WScale: 3}, 14, true, 14},
		"no scale": {porttest.TCPOptions{WScale: 3}, 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{config: func(c *nat.Config) { c.WindowScale = test.config }})
			c, host := b.connect(test.opt)
			require.Equal(t, test.scale, c.PeerWScale)
			require.Equal(t, test.sacks, c.PeerSACK)
			up := noise(300_000)
			c.Send(up)
			requireSame(t, up, b.readSome(host, len(up)))
			require.Zero(t, c.Shrinks)
			require.Zero(t, b.port.Counters().TCPRefused)
		})
	}
}

func TestTheWindowScaleIsChecked(t *testing.T) {
	cfg := nat.DefaultConfig()
	require.LessOrEqual(t, cfg.WindowScale, uint8(14))
	cfg.WindowScale = 15
	require.ErrorContains(t, cfg.Check(), "window scale 15")
}
