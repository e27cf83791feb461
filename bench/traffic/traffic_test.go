package traffic

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// result is what an end has returned.
type result struct {
	counts Counts
	err    error
}

func listenLocal(t *testing.T) (*Server, netip.AddrPort) {
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(s.Port()))
}

// run runs both ends over the loopback.
func run(ctx context.Context, t *testing.T, p Plan, client, server Meter) (asked, served result) {
	s, address := listenLocal(t)
	done := make(chan result, 1)
	go func() {
		counts, err := s.Serve(ctx, p, server)
		done <- result{counts, err}
	}()
	asked.counts, asked.err = Run(ctx, address, p, client)
	return asked, <-done
}

func plan(t *testing.T, name string) Plan {
	test, err := Find(name)
	require.NoError(t, err)
	return Plan{Test: test, Length: 30 * time.Millisecond, Bytes: 1<<20 + 1}
}

// stopwatch is a meter.
type stopwatch struct{ began, ended time.Time }

func (w *stopwatch) Begin() error           { w.began = time.Now(); return nil }
func (w *stopwatch) End(at time.Time) error { w.ended = at; return nil }

func TestBothEndsCountTheSame(t *testing.T) {
	for _, test := range Tests() {
		t.Run(test.Name, func(t *testing.T) {
			p := plan(t, test.Name)
			var client, server stopwatch
			asked, served := run(t.Context(), t, p, &client, &server)
			require.NoError(t, asked.err)
			require.NoError(t, served.err)
			require.Positive(t, served.counts.Received)
			require.NoError(t, test.Check(asked.counts, served.counts))
			for _, w := range []stopwatch{client, server} {
				took := w.ended.Sub(w.began)
				require.Positive(t, took)
				if !test.Volume {
					require.Greater(t, took, p.Length/2)
				}
			}
			if test.Kind == Exchanges || test.Kind == Connects {
				require.Positive(t, asked.counts.P50)
				require.GreaterOrEqual(t, asked.counts.P99, asked.counts.P50)
			}
		})
	}
}

func TestAServerServesOneRunAfterAnother(t *testing.T) {
	s, address := listenLocal(t)
	for _, name := range []string{"crr", "udp-rr", "stream", "udp-64", "rr"} {
		p := plan(t, name)
		done := make(chan result, 1)
		go func() {
			counts, err := s.Serve(t.Context(), p, NoMeter{})
			done <- result{counts, err}
		}()
		asked, err := Run(t.Context(), address, p, NoMeter{})
		require.NoError(t, err)
		served := <-done
		require.NoError(t, served.err)
		require.NoError(t, p.Test.Check(asked, served.counts))
	}
}

func TestAVolumeIsSentWhole(t *testing.T) {
	p := plan(t, "digest")
	asked, served := run(t.Context(), t, p, NoMeter{}, NoMeter{})
	require.NoError(t, asked.err)
	require.Equal(t, int64(1<<20+bufferSize), served.counts.Received)
	require.Len(t, served.counts.SHA256, 64)
}

func TestEverythingEndsWithTheContext(t *testing.T) {
	for _, test := range Tests() {
		t.Run(test.Name, func(t *testing.T) {
			p := plan(t, test.Name)
			p.Length, p.Bytes = time.Hour, 1<<60
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			asked, served := run(ctx, t, p, NoMeter{}, NoMeter{})
			require.Error(t, asked.err)
			require.Error(t, served.err)
			require.Less(t, time.Since(start), patience/2)
		})
	}
}

func TestAClientWithoutAServer(t *testing.T) {
	s, address := listenLocal(t)
	require.NoError(t, s.Close())
	_, err := Run(t.Context(), address, plan(t, "rr"), NoMeter{})
	require.ErrorIs(t, err, unix.ECONNREFUSED)
}

func TestAPortIsTakenForBothProtocols(t *testing.T) {
	_, address := listenLocal(t)
	_, err := Listen(address)
	require.ErrorIs(t, err, unix.EADDRINUSE)
}

func TestNamesOfTests(t *testing.T) {
	seen := make(map[string]bool)
	for _, test := range Tests() {
		require.False(t, seen[test.Name], test.Name)
		require.NotContains(t, test.Name, " ")
		seen[test.Name] = true
	}
	_, err := Find("other")
	require.ErrorContains(t, err, `no test "other"; there are stream, rr,`)
}

func TestCheckTellsWhatIsLost(t *testing.T) {
	stream, datagrams := &Test{}, &Test{Size: 64}
	require.NoError(t, stream.Check(Counts{Sent: 7}, Counts{Received: 7}))
	require.Error(t, stream.Check(Counts{Sent: 7}, Counts{Received: 6}))
	require.Error(t, stream.Check(Counts{Received: 7}, Counts{Sent: 6}))
	require.ErrorContains(t, stream.Check(Counts{SHA256: "a"}, Counts{SHA256: "b"}), "SHA-256 b and a")
	require.NoError(t, datagrams.Check(Counts{Sent: 7}, Counts{Received: 6}), "datagrams may be lost")
	require.Error(t, datagrams.Check(Counts{Sent: 6}, Counts{Received: 7}), "but not doubled")
}

func TestACountingStreamInAnyPieces(t *testing.T) {
	stream := make([]byte, 1000*wordSize)
	var out counter
	out.fill(stream[:400*wordSize])
	out.fill(stream[400*wordSize:])
	for _, piece := range []int{1, 3, 7, 8, 9, 17, 4096, len(stream)} {
		var in counter
		for rest := stream; len(rest) > 0; {
			n := min(piece, len(rest))
			require.NoError(t, in.verify(rest[:n]), "pieces of %d", piece)
			rest = rest[n:]
		}
	}
}

func TestACountingStreamShowsWhatIsWrong(t *testing.T) {
	stream := make([]byte, 100*wordSize)
	new(counter).fill(stream)
	verify := func(parts ...[]byte) error {
		return new(counter).verify([]byte(strings.Join(asStrings(parts), "")))
	}
	require.NoError(t, verify(stream))
	require.Error(t, verify(stream[:80], stream[81:]), "a byte is lost")
	require.Error(t, verify(stream[:80], stream[88:]), "a word is lost")
	require.Error(t, verify(stream[:88], stream[80:]), "a word is doubled")
	require.ErrorContains(t, verify(stream[:80], stream[160:240], stream[80:160]), "byte 80 of the stream: number 20 where 10 should be")
}

func asStrings(parts [][]byte) []string {
	var all []string
	for _, p := range parts {
		all = append(all, string(p))
	}
	return all
}

func TestPercentiles(t *testing.T) {
	var none, l latencies
	require.Zero(t, none.percentile(50))
	for i := range 1000 {
		l.add(time.Duration(i+1) * time.Microsecond)
	}
	require.InEpsilon(t, 500*time.Microsecond, l.percentile(50), 0.03)
	require.InEpsilon(t, 990*time.Microsecond, l.percentile(99), 0.03)
	l.add(time.Hour)
	require.InEpsilon(t, time.Hour, l.percentile(100), 0.03)
}

func TestClassesOfDurations(t *testing.T) {
	last := -1
	for d := time.Duration(0); d < time.Hour; d += max(unit, d/50) {
		class := classOf(d)
		require.GreaterOrEqual(t, class, last)
		require.LessOrEqual(t, leastOf(class), d)
		require.Greater(t, leastOf(class+1), d)
		last = class
	}
	require.Zero(t, classOf(-1))
	require.Less(t, classOf(1<<63-1), classes)
}
