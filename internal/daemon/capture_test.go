package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/netbackend/capture/filter"
	"github.com/vringnet/vring/netbackend/capture/pcapng"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// captureOf are options with a filter.
func captureOf(t *testing.T, text string) CaptureOptions {
	p, err := filter.Parse(text)
	require.NoError(t, err)
	return CaptureOptions{Filter: *p, FilterText: text, SnapLen: capture.MaxSnapLen}
}

// file is what a capture has written.
type file struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (f *file) write(b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes.Write(b)
	return nil
}

// tshark is what tshark tells of the file, some fields of each packet. It must have nothing to complain about.
func (f *file) tshark(t *testing.T, fields ...string) (rows [][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := filepath.Join(t.TempDir(), "f.pcapng")
	require.NoError(t, os.WriteFile(path, f.bytes.Bytes(), 0o600))
	args := []string{"-n", "-r", path, "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-T", "fields"}
	for _, name := range fields {
		args = append(args, "-e", name)
	}
	var complaints strings.Builder
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	require.NoError(t, err, complaints.String())
	for line := range strings.SplitSeq(complaints.String(), "\n") {
		if !strings.Contains(line, "Running as user") { // root
			require.Empty(t, line)
		}
	}
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	return rows
}

// turn waits until all threads of a guest have had a turn with what was sent before.
func (s *served) turn(t *testing.T) {
	for pair := range s.ports {
		for range 2 { // the first one may come before what wakes the thread is noticed
			require.NoError(t, s.device.Do(pair, func(*worker.Thread) {}))
		}
	}
}

// sent waits until the engine has taken n frames of a guest.
func sent(t *testing.T, g *served, n uint64) {
	require.Eventually(t, func() bool {
		sum := uint64(0)
		for pair := range g.ports {
			require.NoError(t, g.device.Do(pair, func(thread *worker.Thread) { sum += thread.Port().(*nat.Port).Counters().FramesIn }))
		}
		return sum == n
	}, 2*time.Minute, time.Millisecond)
	g.turn(t)
}

func TestACaptureIsAFileThatTsharkReads(t *testing.T) {
	d, _ := openedNAT(t, 2)
	c, err := d.Capture("10.0.2.15", captureOf(t, "udp port 7000"))
	require.NoError(t, err)
	senders := sendersOf(t, d.guests[0])
	ctx, cancel := context.WithCancel(t.Context())
	var f file
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, f.write) }()
	for i := range 10 {
		senders[0].send(5000, 7000, fmt.Sprint("first queue ", i))
		senders[0].send(5000, 7001, "not selected")
		sent(t, d.guests[0], uint64(3*i+2))
		senders[1].send(5001, 7000, fmt.Sprint("second queue ", i))
		sent(t, d.guests[0], uint64(3*i+3))
	}
	cancel()
	require.NoError(t, <-ended)
	require.EqualValues(t, 20, c.Packets())
	require.Zero(t, c.Missed())
	rows := f.tshark(t, "frame.interface_name", "frame.packet_flags_direction", "udp.srcport", "data.text", "frame.time_epoch", "ip.src", "frame.number")
	require.Len(t, rows, 20)
	for i, row := range rows {
		require.Equal(t, fmt.Sprint("10.0.2.15 queue ", i%2), row[0], "in the order of time")
		require.Contains(t, []string{"0x2", "2", "0x00000002"}, row[1], "from the guest")
		require.Equal(t, fmt.Sprint(5000+i%2), row[2])
		require.Equal(t, "10.0.2.15", row[5])
		var seconds float64
		_, err := fmt.Sscan(row[4], &seconds)
		require.NoError(t, err)
		require.InDelta(t, float64(time.Now().Unix()), seconds, 600)
	}
	require.Contains(t, f.capinfos(t), "udp port 7000")
}

// capinfos is what capinfos tells of the interfaces.
func (f *file) capinfos(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "f.pcapng")
	require.NoError(t, os.WriteFile(path, f.bytes.Bytes(), 0o600))
	out, err := exec.CommandContext(t.Context(), "capinfos", path).CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}

// A reader that does not read costs the guest nothing: what it misses is counted, and told when it reads again.
func TestAReaderThatDoesNotReadMissesFramesAndNothingElse(t *testing.T) {
	d, _ := openedNAT(t, 1)
	g := d.guests[0]
	c, err := d.Capture("10.0.2.15", captureOf(t, ""))
	require.NoError(t, err)
	c.taps[0], err = capture.NewTap(capture.Options{SnapLen: capture.MaxSnapLen, Memory: capture.MinMemory}) // for less than all frames
	require.NoError(t, err)
	g.setHooks()
	s := sendersOf(t, g)[0]
	reads, waits := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var f file
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- c.Run(ctx, func(b []byte) error {
			once.Do(func() { close(waits) })
			<-reads
			return f.write(b)
		})
	}()
	<-waits
	const all = 250 // what the ring of transmit holds, and more than the tap
	for n := range uint64(all) {
		s.send(5000, 9, strings.Repeat("x", 1000))
		sent(t, g, n+1)
	}
	require.Positive(t, c.Missed())
	close(reads)
	cancel()
	require.NoError(t, <-ended)
	require.EqualValues(t, all, c.Packets()+c.Missed())
	require.Len(t, f.tshark(t, "frame.len"), int(c.Packets()))
	told := uint64(0)
	for blocks := pcapng.NewScanner(&f.bytes); ; {
		b, err := blocks.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if counters, ok := b.Counters(); ok {
			told = counters.Dropped
			require.EqualValues(t, all, counters.Received)
		}
	}
	require.Equal(t, c.Missed(), told)
}

func TestACaptureEndsAfterSoManyPackets(t *testing.T) {
	d, _ := openedNAT(t, 1)
	o := captureOf(t, "")
	o.Packets, o.SnapLen = 3, 30
	c, err := d.Capture("10.0.2.15", o)
	require.NoError(t, err)
	s := sendersOf(t, d.guests[0])[0]
	for range 5 {
		s.send(5000, 9, "text")
	}
	sent(t, d.guests[0], 5)
	var f file
	require.NoError(t, c.Run(t.Context(), f.write))
	rows := f.tshark(t, "frame.len", "frame.cap_len")
	require.Equal(t, [][]string{{"46", "30"}, {"46", "30"}, {"46", "30"}}, rows)
	require.Empty(t, d.guests[0].captures)
}

func TestCapturesAreBounded(t *testing.T) {
	d, _ := openedNAT(t, 1)
	_, err := d.Capture("10.0.2.99", captureOf(t, ""))
	require.ErrorAs(t, err, new(*NoGuestError))
	var all []*Capture
	for _, guest := range []string{"10.0.2.15", "10.0.2.15", "10.0.2.16", "10.0.2.16"} {
		c, err := d.Capture(guest, captureOf(t, ""))
		require.NoError(t, err)
		all = append(all, c)
	}
	_, err = d.Capture("10.0.2.15", captureOf(t, ""))
	require.ErrorContains(t, err, "2 captures of guest 10.0.2.15 are running")
	for range 2 { // the second call finds nothing to do
		all[0].Close()
	}
	all[0], err = d.Capture("10.0.2.15", captureOf(t, ""))
	require.NoError(t, err)
	require.Equal(t, MaxCaptures, len(all))
	other := &served{guest: guest{name: "10.0.2.17"}}
	d.guests = append(d.guests, other)
	_, err = d.Capture("10.0.2.17", captureOf(t, ""))
	require.ErrorContains(t, err, "4 captures are running")
	d.guests = d.guests[:2]
	for _, c := range all {
		c.Close()
	}
	for pairs, want := range map[int]int{1: 16 << 20, 2: 8 << 20, 3: 4 << 20, 4: 4 << 20, 32: 512 << 10} {
		require.Equal(t, want, tapMemory(pairs))
		require.LessOrEqual(t, pairs*tapMemory(pairs), captureMemory)
	}
}

func TestACaptureWhoseWriterFailsEnds(t *testing.T) {
	d, _ := openedNAT(t, 1)
	c, err := d.Capture("10.0.2.15", captureOf(t, ""))
	require.NoError(t, err)
	broken := errors.New("broken")
	require.ErrorIs(t, c.Run(t.Context(), func([]byte) error { return broken }), broken)
	require.Empty(t, d.guests[0].captures)
}
