package namerelay_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
)

// connected is a connection of a rig's guest.
type connected struct {
	*namerelay.Stream
	r *rig
}

func (r *rig) connect() connected {
	s := r.relay.Begin(r.now)
	require.NotNil(r.t, s)
	r.relay.Started(s, 1)
	return connected{s, r}
}

// asks sends a question, and returns what has become of it.
func (c connected) asks(message []byte) namerelay.Outcome {
	c.r.t.Helper()
	c.Take(framed(message))
	got, ok := c.Question(c.r.now)
	require.True(c.r.t, ok)
	require.Equal(c.r.t, message, got)
	return c.r.relay.Ask(c.r.now, &namerelay.Client{Stream: c.Stream}, got)
}

// got takes all answers.
func (c connected) got() (all [][]byte) {
	for b := c.Answers(0, 1<<20); len(b) > 0; b = c.Answers(0, 1<<20) {
		n := 2 + int(binary.BigEndian.Uint16(b))
		all = append(all, slices.Clone(b[2:n]))
		c.Acknowledged(c.r.now, n)
	}
	return all
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func TestAGuestHasFewConnections(t *testing.T) {
	r := newRig(t, 1)
	_, most := r.guest.Streams()
	var all []*namerelay.Stream
	for i := range most {
		s := r.relay.Begin(r.now)
		require.NotNil(t, s)
		r.relay.Started(s, uint32(i))
		all = append(all, s)
	}
	require.Nil(t, r.relay.Begin(r.now))
	require.Same(t, all[1], r.relay.Find(1))
	require.Nil(t, r.relay.Find(100))
	require.Equal(t, all, r.relay.Streams())
	r.relay.Over(all[1])
	require.Nil(t, r.relay.Find(1))
	s := r.relay.Begin(r.now)
	require.NotNil(t, s)
	r.relay.GiveUp()
	require.NotNil(t, r.relay.Begin(r.now), "nor does one that never was keep its place")
}

func TestAConnectionEndsOnWhichNothingPasses(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect()
	require.False(t, r.relay.AreStreamsDue(r.now))
	due := r.relay.Next(r.now)
	require.NotZero(t, due)
	require.True(t, r.relay.AreStreamsDue(due))
	r.relay.Looked()
	require.False(t, r.relay.AreStreamsDue(due), "that was done")

	r.now += 9 * second
	require.Equal(t, namerelay.Stays, c.Judge(r.now))
	c.asks(question(1))
	r.now += 9 * second
	require.Equal(t, namerelay.Stays, c.Judge(r.now))
	r.now += 2 * second
	require.Equal(t, namerelay.Stays, c.Judge(r.now), "an answer is awaited")
	r.relay.TendQueries(r.now)
	require.EqualValues(t, 2, codeOf(c.got()[0]), "which is that nobody has one")
	r.now += 9 * second
	require.Equal(t, namerelay.Stays, c.Judge(r.now))
	c.Take([]byte{0})
	r.now += second
	require.Equal(t, namerelay.Ends, c.Judge(r.now), "half a question is none")
	require.True(t, c.IsComplete(0, false))
	r.now += 19 * second
	require.Equal(t, namerelay.Stays, c.Judge(r.now))
	r.now += second
	require.Equal(t, namerelay.Abandoned, c.Judge(r.now))
}

func TestQuestionsOfAConnectionAreTakenOneByOne(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect()
	stream := slices.Concat(framed(question(1)), framed(question(2)))
	for i, b := range stream {
		got, ok := c.Question(r.now)
		require.True(t, ok)
		require.Equal(t, i == len(stream)/2, got != nil)
		require.Equal(t, i%(len(stream)/2), c.Held())
		c.Take([]byte{b})
	}
	got, _ := c.Question(r.now)
	require.Equal(t, question(2), got)
	for _, lie := range [][]byte{{0, 0}, {0, 11}, {0x10, 1}} {
		c := r.connect()
		c.Take(lie)
		_, ok := c.Question(r.now)
		require.False(t, ok, "%v", lie)
		r.relay.Over(c.Stream)
	}
}

func TestAnswersOfAConnectionStayUntilTheGuestHasThem(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect()
	require.Equal(t, namerelay.Passed, c.asks(question(1)))
	require.False(t, c.IsComplete(0, true), "an answer is to come")
	r.reply(r.sockets[0], answer(question(1), 0))
	want := framed(answer(question(1), 0))
	require.Equal(t, want, c.Answers(0, 1000))
	require.Equal(t, want[3:8], c.Answers(3, 5), "any part, again and again")
	require.Empty(t, c.Answers(1000, 5))
	require.False(t, c.IsComplete(len(want)-1, true))
	require.True(t, c.IsComplete(len(want), true))
	require.False(t, c.IsComplete(len(want), false), "the guest may ask more")
	c.Acknowledged(r.now, 4)
	require.Equal(t, want[4:], c.Answers(0, 1000))
	c.Acknowledged(r.now, len(want))
	require.Empty(t, c.Answers(0, 1000))
}

func TestAConnectionHasFewQuestionsUnderWay(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect()
	for i := range uint16(16) {
		require.Equal(t, namerelay.Passed, c.asks(question(i)))
	}
	c.Take(framed(question(16)))
	got, ok := c.Question(r.now)
	require.True(t, ok)
	require.Nil(t, got)
	c.TakeNews()
	r.reply(r.sockets[3], answer(question(3), 0))
	require.True(t, r.relay.HasNews())
	require.True(t, c.TakeNews())
	require.False(t, r.relay.HasNews())
	got, _ = c.Question(r.now)
	require.Equal(t, question(16), got)
	require.Equal(t, namerelay.Passed, r.relay.Ask(r.now, &namerelay.Client{Stream: c.Stream}, got))
}

// A question that the guest repeats on a connection has one answer, and so has one whose connection is another one.
func TestAQuestionOfAConnectionIsItsOwn(t *testing.T) {
	r := newRig(t, 1)
	first := r.connect()
	require.Equal(t, namerelay.Passed, first.asks(question(1)))
	require.Equal(t, namerelay.Repeated, first.asks(question(1)))
	r.relay.Over(first.Stream)
	second := r.connect() // from the same port
	require.Equal(t, namerelay.Passed, second.asks(question(1)))
	for _, s := range r.sockets {
		r.reply(s, answer(question(1), 0))
	}
	require.Len(t, second.got(), 1)
	require.Empty(t, first.Answers(0, 1000))
	require.True(t, second.IsComplete(0, true))
}

func TestAGuestThatIsGoneLeavesNoQuestion(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect()
	c.asks(question(1))
	r.relay.Forget()
	require.Len(t, c.got(), 1)
	require.True(t, c.IsComplete(0, true))
}

// Who asks too much by a connection is told, as nobody else would tell it.
func TestAQuestionWithoutABudgetFails(t *testing.T) {
	r := newRig(t, 1)
	c := r.connect()
	c.Take(framed(question(1)))
	got, _ := c.Question(r.now)
	r.relay.Decline(&namerelay.Client{Stream: c.Stream}, got)
	require.EqualValues(t, 2, codeOf(c.got()[0]))
	r.relay.Decline(&namerelay.Client{}, question(2))
	require.Empty(t, r.answers)
}
