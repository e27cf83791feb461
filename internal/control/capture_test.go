package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture/pcapng"
)

const capturePath = "/v1/guests/10.0.2.15/capture"

// kindsOf are the kinds of blocks that a stream has until its end.
func kindsOf(t *testing.T, from io.Reader) (kinds []uint32) {
	for s := pcapng.NewScanner(from); ; {
		b, err := s.Next()
		if errors.Is(err, io.EOF) {
			return kinds
		}
		require.NoError(t, err)
		kinds = append(kinds, b.Kind)
	}
}

// begun is a capture whose beginning was read.
func begun(t *testing.T, b *bench, query string) *Stream {
	s, err := b.client.Stream(t.Context(), capturePath+query)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	scanner := pcapng.NewScanner(s)
	for _, kind := range []uint32{pcapng.Section, pcapng.Interface} {
		block, err := scanner.Next()
		require.NoError(t, err)
		require.Equal(t, kind, block.Kind)
	}
	return s
}

// captures is how many captures the server sends.
func (b *bench) captures() int { return int(b.server.files.running.Load()) }

func TestACaptureEndsInWaysThatItsClientChooses(t *testing.T) {
	b := newBench(t, 2)
	for name, end := range map[string]func(s *Stream){
		"it stops":    func(s *Stream) { require.NoError(t, s.Stop()) },
		"the time":    func(*Stream) {},
		"it hangs up": func(s *Stream) { require.NoError(t, s.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			query := "?filter=" + url.QueryEscape("tcp port 80")
			if name == "the time" {
				query += "&duration=20ms"
			}
			s := begun(t, b, query)
			end(s)
			if name != "it hangs up" {
				require.Equal(t, []uint32{pcapng.Statistics}, kindsOf(t, s))
			}
			require.Eventually(t, func() bool { return b.captures() == 0 }, time.Minute, time.Millisecond)
		})
	}
}

// The client is told the end, with what was missed, also when the server goes.
func TestACaptureEndsWithItsServer(t *testing.T) {
	b := newBench(t, 1)
	s := begun(t, b, "")
	b.server.Close()
	require.Equal(t, []uint32{pcapng.Statistics}, kindsOf(t, s))
}

// An answer that goes on may take longer than others.
func TestADownloadHasNotTheDeadlineOfOtherAnswers(t *testing.T) {
	b := newBench(t, 1)
	d := &download{server: b.server, kind: captureType, run: func(ctx context.Context, write func([]byte) error) {
		if ctx.Err() == nil && write([]byte("one")) == nil {
			_ = write([]byte(", two"))
		}
	}}
	l, err := net.Listen("unix", b.path+".d")
	require.NoError(t, err)
	server := newHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(-time.Second)) // it is over
		d.send(w, r)
	}), b.server.conns, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	s, err := NewClient(b.path+".d").Stream(t.Context(), "/")
	require.NoError(t, err)
	defer s.Close()
	text, err := io.ReadAll(s)
	require.NoError(t, err)
	require.Equal(t, "one, two", string(text))
}

func TestCapturesOfClientsAreBounded(t *testing.T) {
	b := newBench(t, 2)
	first := begun(t, b, "")
	begun(t, b, "")
	status, answer := b.ask(http.MethodGet, capturePath, "")
	require.Equal(t, http.StatusTooManyRequests, status)
	require.Contains(t, answer, "2 captures of guest 10.0.2.15 are running")
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { return b.captures() == 1 }, time.Minute, time.Millisecond)
	begun(t, b, "")
}

func TestWhatIsWrongWithACaptureIsTold(t *testing.T) {
	b := newBench(t, 1)
	for query, want := range map[string]string{
		"filter=" + url.QueryEscape("tcp port http"): "names are not looked up", "filter=vlan": `there is no \"vlan\" in this part of tcpdump's language`,
		"snaplen=13": "want 14 to 65557 bytes", "snaplen=65558": "want 14 to 65557 bytes", "snaplen=x": "want 14", "gso=both": "want whole or cut", "count=0": "from 1 on",
		"count=18446744073709551616": "from 1 on", "duration=0s": "above 0", "duration=-1s": "above 0", "duration=721h": "up to 720h", "duration=x": "above 0",
		"count=1&count=2": "write it once", "speed=1": `there is no \"speed\"; there are [\"filter\"`, "%zz": "invalid URL escape",
	} {
		status, answer := b.ask(http.MethodGet, capturePath+"?"+query, "")
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Contains(t, answer, want, query)
	}
	status, _ := b.ask(http.MethodGet, "/v1/guests/10.0.2.99/capture", "")
	require.Equal(t, http.StatusNotFound, status)
	_, err := b.client.Stream(context.Background(), "/v1/guests/10.0.2.99/capture")
	require.ErrorContains(t, err, `there is no guest "10.0.2.99"`)
	require.Zero(t, b.captures())
}

// The end of a capture that lasts so long that nobody reads it is that of its time.
func TestACaptureIsDescribed(t *testing.T) {
	b := newBench(t, 1)
	status, answer := b.ask(http.MethodGet, capturePath+"?duration=1ms", "")
	require.Equal(t, http.StatusOK, status)
	require.EqualValues(t, pcapng.Section, binary.LittleEndian.Uint32([]byte(answer)))
	require.Contains(t, answer, "10.0.2.15 queue 0", fmt.Sprintf("%q", answer))
}
