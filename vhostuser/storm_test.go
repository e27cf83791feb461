package vhostuser

import (
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/pace"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
)

// stormTime is how long storms last here. Without a pause some thousand front ends come in it.
const stormTime = 2 * time.Second

// storm lets front ends come one after the other, each as soon as the one before has left.
func (s *served) storm(visit func(fe *frontend.Conn)) (visits int) {
	s.t.Helper()
	for end := time.Now().Add(stormTime); time.Now().Before(end); visits++ {
		fe, err := frontend.Dial(s.path)
		require.NoError(s.t, err)
		visit(fe)
		require.NoError(s.t, fe.Close())
	}
	return visits
}

// mostVisits is more than pauses leave room for in a storm: the first few, and then ever fewer.
const mostVisits = 25

func TestFrontEndsThatComeAndGoAreSlowedDownAndToldOfOnce(t *testing.T) {
	s := serve(t, Config{QueuesHint: "see --queues"})
	visits := s.storm(func(fe *frontend.Conn) {
		_, _ = fe.GetFeatures()
		_, _ = fe.GetQueueNum()
	})
	require.Less(t, visits, mostVisits)
	s.eventually("front ends leave again and again")
	log := s.log.String()
	require.Equal(t, 1, countLines(log, "level=WARN"), log)
	require.Contains(t, log, "more queue pairs than there are (1)")
	require.Contains(t, log, "see --queues")
	require.LessOrEqual(t, len(messages(log)), 2*pace.FreeEnds+2, log)

	// The next good one is served, and told of.
	s.connect()
	require.Contains(t, s.log.String()[len(log):], `msg="front end connected"`)
	require.Contains(t, s.log.String()[len(log):], `msg="guest driver is up"`)
}

// A driver that comes up does not make it less of a storm.
func TestWholeGuestsThatComeAndGoAreSlowedDownToo(t *testing.T) {
	s := serve(t, Config{})
	setup := newSetup(t, s.mem, 1)
	visits := s.storm(func(fe *frontend.Conn) {
		require.NoError(t, fe.Setup(setup))
		_, err := fe.GetFeatures()
		require.NoError(t, err)
	})
	require.Less(t, visits, mostVisits)
	require.NotContains(t, s.log.String(), "leave again and again")
}

func TestWhoJustLooksWhetherSomebodyListensIsNotToldOf(t *testing.T) {
	s := serve(t, Config{})
	for range 2000 {
		c, err := net.Dial("unix", s.path)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	first := s.connect()
	for range 20 {
		require.ErrorContains(t, socketfile.Check(s.path), "in use by another process")
	}
	looks, err := net.Dial("unix", s.path)
	require.NoError(t, err)
	time.Sleep(wordPatience / 30) // long enough to be taken for a front end
	require.NoError(t, looks.Close())
	_, err = first.GetFeatures()
	require.NoError(t, err)
	require.NotContains(t, s.log.String(), "refused")
	require.NotContains(t, s.log.String(), "WARN")
	require.LessOrEqual(t, countLines(s.log.String(), "front end connected"), 1+pace.FreeEnds)
}

func TestFrontEndsThatAreRefusedAgainAndAgainAreSlowedDown(t *testing.T) {
	s, start := serve(t, Config{}), time.Now()
	first := s.connect()
	s.machine() // that a guest can be migrated to
	visits := s.storm(func(fe *frontend.Conn) {
		_, err := fe.GetFeatures()
		require.Error(t, err)
	})
	require.Less(t, visits, mostVisits)
	s.requireFewRefusals(start)
	_, err := first.GetFeatures()
	require.NoError(t, err)
}

func TestASocketThatAcceptsAndClosesIsDialledSlowlyAndToldOfOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fe.sock")
	s := serve(t, Config{SocketPath: path, Client: true})
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	var accepted atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			accepted.Add(1)
			c.Close()
		}
	}()
	start := time.Now()
	require.Eventually(t, func() bool { return accepted.Load() > vainEnds }, 10*testLimit, 10*time.Millisecond)
	require.Greater(t, time.Since(start), (1<<vainEnds-1)*backoffMin/2, "each pause is twice the one before")
	require.Less(t, accepted.Load(), int64(mostVisits))
	const told = "connections come and go without a word"
	s.eventually(told)
	more := accepted.Load() + 2
	require.Eventually(t, func() bool { return accepted.Load() > more }, 10*testLimit, 10*time.Millisecond)
	require.Equal(t, 1, countLines(s.log.String(), told))
	require.NotContains(t, s.log.String(), "front end connected")
	s.cancel()
	require.NoError(t, s.wait())
	require.NoError(t, l.Close())
	<-done
}

func TestTheLogTellsThatNoFrontEndHasCome(t *testing.T) {
	soon := func(s *Server) { s.wait.frontEnd = time.Millisecond }
	t.Run("listens", func(t *testing.T) {
		s := serveEdited(t, Config{}, soon)
		s.eventually("no front end has connected yet")
		require.Contains(t, s.log.String(), s.path)
		s.connect()
		require.Equal(t, 1, countLines(s.log.String(), "no front end"))
	})
	t.Run("connects", func(t *testing.T) {
		s := serveEdited(t, Config{SocketPath: filepath.Join(t.TempDir(), "fe.sock"), Client: true}, soon)
		s.eventually("no front end listens yet")
		require.Contains(t, s.log.String(), "no such file")
	})
}

func TestAFrontEndThatNamesARingTooManyIsToldHowManyThereAre(t *testing.T) {
	s := serve(t, Config{QueuesHint: "see --queues"})
	fe := s.connect()
	require.NoError(t, fe.Send(wire.Message{Request: wire.SetVringNum, Ring: 2, Num: 256}))
	s.eventually("ring 2: the device has 1 queue pairs, with rings 0 to 1; see --queues")
}
