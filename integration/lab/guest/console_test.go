package guest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// fakeGuest is the guest's end of a console.
type fakeGuest struct {
	t        *testing.T
	requests *bufio.Scanner
	out      io.WriteCloser
}

// newFakeGuest returns a console and a guest that does what the test writes for it.
func newFakeGuest(t *testing.T) (*Console, *fakeGuest) {
	requests, in := io.Pipe()
	out, answers := io.Pipe()
	t.Cleanup(func() { answers.Close(); requests.Close() })
	return NewConsole(out, in, func() string { return "all that was printed" }), &fakeGuest{t: t, requests: bufio.NewScanner(requests), out: answers}
}

func (g *fakeGuest) send(a proto.Answer) {
	fmt.Fprintf(g.out, "\r\nSeaBIOS\r\n[    0.1] noise\r\n%s\r\n", a)
}

func (g *fakeGuest) expect(command string) int {
	require.True(g.t, g.requests.Scan())
	r, err := proto.ParseRequest(g.requests.Text())
	require.NoError(g.t, err)
	require.Equal(g.t, command, r.Command)
	return r.ID
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCommandsMayOverlapAndReportEvents(t *testing.T) {
	c, g := newFakeGuest(t)
	go g.send(proto.NewAnswer(0, proto.Event, proto.Hello{Kernel: "6.1"}))
	hello, err := c.WaitBoot(soon(t))
	require.NoError(t, err)
	require.Equal(t, "6.1", hello.Kernel)

	go func() {
		first, second := g.expect("first"), g.expect("second")
		g.send(proto.NewAnswer(second, proto.OK, proto.Text{Text: "two"}))
		g.send(proto.NewAnswer(first, proto.Event, proto.Listening{Address: ":80"}))
		g.send(proto.NewAnswer(first, proto.Error, "broken"))
	}()
	first, second := c.Start("first"), c.Start("second", 1, "a")
	var text proto.Text
	require.NoError(t, second.Wait(soon(t), &text))
	require.Equal(t, "two", text.Text)
	var listening proto.Listening
	require.NoError(t, first.Event(soon(t), &listening))
	require.Equal(t, ":80", listening.Address)
	require.EqualError(t, first.Wait(soon(t), nil), `guest: first: "broken"`)
	require.Error(t, first.Event(soon(t), nil), "no more events after the end")
}

func TestARestartEndsWhatWasUnderWay(t *testing.T) {
	c, g := newFakeGuest(t)
	go func() {
		g.expect("first")
		g.send(proto.NewAnswer(0, proto.Event, proto.Hello{}))
	}()
	require.ErrorIs(t, c.Do(soon(t), nil, "first"), ErrRestarted)
	_, err := c.WaitBoot(soon(t))
	require.NoError(t, err)
}

func TestABootEndsAtOnceWithTheConsoleAndTellsWhatWasPrinted(t *testing.T) {
	c, g := newFakeGuest(t)
	require.NoError(t, g.out.Close())
	_, err := c.WaitBoot(soon(t))
	require.ErrorIs(t, err, ErrGone)
	require.ErrorContains(t, err, "all that was printed")
}

func TestABootIsToldThoughTheConsoleHasEndedSince(t *testing.T) {
	c, g := newFakeGuest(t)
	g.send(proto.NewAnswer(0, proto.Event, proto.Hello{Kernel: "6.1"}))
	require.NoError(t, g.out.Close())
	<-c.ended
	hello, err := c.WaitBoot(soon(t))
	require.NoError(t, err)
	require.Equal(t, "6.1", hello.Kernel)
	_, err = c.WaitBoot(soon(t))
	require.ErrorIs(t, err, ErrGone)
}

func TestTheEndOfTheConsoleEndsAllCalls(t *testing.T) {
	c, g := newFakeGuest(t)
	go func() {
		g.expect("first")
		g.out.Close()
	}()
	require.ErrorIs(t, c.Do(soon(t), nil, "first"), ErrGone)
	require.ErrorIs(t, c.Do(soon(t), nil, "second"), ErrGone)
}
