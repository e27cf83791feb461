package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/sandbox"
)

// shortDir makes a directory whose path leaves room for a socket's name, which testing's own may not.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// stubs is a configuration of test back ends, one for each socket, without a sandbox: a test cannot leave it.
func stubs(paths ...string) Config {
	stub := DefaultStub()
	return Config{FrontEnds: FrontEnds{SocketPaths: paths}, Sandbox: sandbox.Off, Stub: &stub}
}

// program tells events to a channel.
func program() (Program, <-chan Event) {
	events := make(chan Event, 100)
	return Program{Tell: func(e Event) { events <- e }, Log: slog.New(slog.DiscardHandler)}, events
}

func TestADaemonIsOpenedServesAndLeavesNothingBehind(t *testing.T) {
	dir := shortDir(t)
	config := stubs(filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	p, events := program()
	d := open(t, config, p)
	require.NoError(t, d.Confine())
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- d.Serve(ctx) }()
	for _, path := range config.FrontEnds.SocketPaths {
		require.Equal(t, Ready{Socket: path}, nextOf[Ready](t, events))
		c, err := net.Dial("unix", path)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	s := d.Status()
	require.Len(t, s.Guests, 2)
	require.Equal(t, config.FrontEnds.SocketPaths[1], s.Guests[1].Name)
	require.NoError(t, s.Guests[1].Err)
	require.Len(t, s.Guests[1].Pairs, 1)
	cancel()
	require.NoError(t, <-served)
	counted := []string{nextOf[Counted](t, events).Guest, nextOf[Counted](t, events).Guest}
	require.ElementsMatch(t, config.FrontEnds.SocketPaths, counted)
	for _, path := range config.FrontEnds.SocketPaths {
		require.NoFileExists(t, path)
	}
}

// Until then the process is stopped again and again, by its own sandbox.
func TestThreadsSleepAsLongAsTheyLikeWhenGuestsAreServed(t *testing.T) {
	p, events := program()
	d := open(t, stubs(filepath.Join(shortDir(t), "s")), p)
	require.Equal(t, sleepBeforeServing, d.guests[0].device.MaxSleep())
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx) }()
	nextOf[Ready](t, events)
	require.Zero(t, d.guests[0].device.MaxSleep())
	cancel()
	require.NoError(t, <-served)
}

// open opens a daemon of a configuration that is right.
func open(t *testing.T, config Config, p Program) *Daemon {
	checked, err := config.Check()
	require.NoError(t, err)
	d, err := Open(checked, p)
	require.NoError(t, err)
	return d
}

// nextOf returns the next event of a type.
func nextOf[E Event](t *testing.T, events <-chan Event) E {
	for {
		select {
		case e := <-events:
			if e, ok := e.(E); ok {
				return e
			}
		case <-time.After(time.Minute):
			require.Fail(t, "no event")
		}
	}
}

func TestADaemonThatCannotOpenAllLeavesNothingOpen(t *testing.T) {
	dir := shortDir(t)
	config := stubs(filepath.Join(dir, "a"), filepath.Join(dir, "none", "b"))
	p, events := program()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "none"), 0o700))
	checked, err := config.Check()
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "none")))
	_, err = Open(checked, p)
	fault := new(Fault)
	require.ErrorAs(t, err, &fault, "it can be written otherwise")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Contains(t, fault.Spell(func(o Option) string { return "<" + string(o) + ">" }), "<socket-path> "+filepath.Join(dir, "none", "b"))
	require.NoFileExists(t, filepath.Join(dir, "a"))
	require.Empty(t, events, "the error is all there is to say")
}

func TestADaemonThatNeedsABrokerNeedsItsProgram(t *testing.T) {
	config := stubs(filepath.Join(shortDir(t), "s"))
	config.Sandbox = sandbox.On // in which the socket's file cannot be removed
	checked, err := config.Check()
	require.NoError(t, err)
	p, _ := program()
	_, err = Open(checked, p)
	require.ErrorContains(t, err, "its program is missing")
	require.NoFileExists(t, config.FrontEnds.SocketPaths[0])
}

func TestACheckTellsAllThatIsWrong(t *testing.T) {
	config := stubs("/run/x", "/run/x", "")
	config.Stub.Mode, config.Threads.Poll, config.FrontEnds.FD = "loud", 2*MaxPoll, new(int)
	config.Log.Level = 3
	_, err := config.Check()
	for _, want := range []string{
		"socket-path /run/x is given twice", "socket-path: the value is empty", "socket-path and fd exclude each other",
		`mode "loud"`, "poll-us 2000000: want 0 to 1000000",
		"log-level INFO+3: want debug, info, warn or error",
	} {
		require.ErrorContains(t, err, want)
	}
	config.Stub = nil
	_, err = config.Check()
	require.ErrorContains(t, err, "guests are connected to one network, not to 0")
}

func TestALostNetworkEndsItsGuest(t *testing.T) {
	config := stubs(filepath.Join(shortDir(t), "s"))
	p, events := program()
	d := open(t, config, p)
	lost := make(chan error, 1)
	d.guests[0].lost = lost
	lost <- errors.New("deleted")
	err := d.Serve(t.Context())
	require.ErrorAs(t, err, new(*LostError))
	require.ErrorContains(t, nextOf[GuestStopped](t, events).Err, "deleted")
}
