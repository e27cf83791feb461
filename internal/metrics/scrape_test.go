package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
)

// serve lets a daemon serve so many guests, with a network of their own each, until the test ends.
func serve(tb testing.TB, guests int) *daemon.Daemon {
	nat := daemon.DefaultNAT()
	config := daemon.Config{Sandbox: sandbox.Off, NAT: &nat, Control: daemon.Control{Off: true}}
	dir, err := os.MkdirTemp("", "vr") // testing's own may leave no room for a socket's name
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	for i := range guests {
		config.FrontEnds.SocketPaths = append(config.FrontEnds.SocketPaths, filepath.Join(dir, fmt.Sprint("g", i)))
	}
	checked, err := config.Check()
	require.NoError(tb, err)
	d, err := daemon.Open(checked, daemon.Program{Tell: func(daemon.Event) {}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- d.Serve(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-served)
	})
	return d
}

// sleepers are the threads of this process that wait as those of queue pairs do. Go's own threads do not.
func sleepers(t *testing.T) (threads []string) {
	all, err := filepath.Glob("/proc/self/task/*")
	require.NoError(t, err)
	for _, thread := range all {
		call, _ := os.ReadFile(thread + "/syscall") // none of a thread that has ended
		if strings.HasPrefix(string(call), fmt.Sprint(unix.SYS_EPOLL_PWAIT2, " ")) {
			threads = append(threads, thread)
		}
	}
	return threads
}

// woken tells how often threads have slept until now.
func woken(t *testing.T, threads []string) (n int) {
	line := regexp.MustCompile(`(?m)^voluntary_ctxt_switches:\s+(\d+)$`)
	for _, thread := range threads {
		text, err := os.ReadFile(thread + "/status")
		require.NoError(t, err)
		switches, err := strconv.Atoi(string(line.FindSubmatch(text)[1]))
		require.NoError(t, err)
		n += switches
	}
	return n
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool, what string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(end), what)
	}
}

// turns are how many turns the threads of all guests have published.
func turns(t *testing.T, p *Page) (n float64) {
	text, err := p.Text()
	require.NoError(t, err)
	for name, value := range samplesOf(t, text) {
		if strings.HasPrefix(name, "vring_thread_turns_total ") {
			n += value
		}
	}
	return n
}

// Threads that have nothing to do are neither woken by a scrape, nor take a turn for it.
func TestAScrapeWakesNoThread(t *testing.T) {
	const guests, window = 3, 300 * time.Millisecond
	page := NewPage(serve(t, guests))
	var threads []string
	eventually(t, func() bool { threads = sleepers(t); return len(threads) == guests }, "the threads do not sleep")
	scrapes := 0
	eventually(t, func() bool { // turns of the start are published later; the kernel counts a thread that waits for a page or for the collector too
		slept, taken := woken(t, threads), turns(t, page)
		for end := time.Now().Add(window); time.Now().Before(end); scrapes++ {
			_, err := page.Text()
			require.NoError(t, err)
		}
		return woken(t, threads) == slept && turns(t, page) == taken
	}, "threads are woken while others scrape")
	require.Positive(t, scrapes)
}

// BenchmarkScrape is a page of 64 guests: looking at what their threads have published, and the text of it. The time of processors is
// that of the whole process, threads of guests and the collector of memory among them.
func BenchmarkScrape(b *testing.B) {
	const guests = 64
	page := NewPage(serve(b, guests))
	bytes, before := 0, processorTime(b)
	b.ReportAllocs()
	for b.Loop() {
		text, err := page.Text()
		require.NoError(b, err)
		bytes = len(text)
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
	b.ReportMetric(float64(bytes), "bytes/page")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var used unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
