package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const us = int64(1000)

// sleepFor lets a poller have work at a time, sleep, and be woken by work after a gap. It returns that time.
func sleepFor(p *poller, at, gap int64) int64 {
	p.worked(at)
	p.sleeps()
	p.worked(at + gap)
	return at + gap
}

func neverOversubscribed() bool { return false }

func TestPollingBeginsWhenItWouldHaveBridgedTheGap(t *testing.T) {
	p := &poller{bound: 80 * us, oversubscribed: neverOversubscribed}
	at := sleepFor(p, 1, 1000*us)
	require.False(t, p.shouldPoll(at), "the gap was long")
	for _, want := range []int64{10 * us, 20 * us, 40 * us, 80 * us, 80 * us} {
		at = sleepFor(p, at, 30*us)
		require.Equal(t, want, p.window)
	}
	require.True(t, p.shouldPoll(at+79*us))
	require.False(t, p.shouldPoll(at+80*us), "it is bounded")
}

func TestPollingEndsWhenGapsAreLong(t *testing.T) {
	p := &poller{bound: 80 * us, oversubscribed: neverOversubscribed, window: 80 * us}
	at := int64(1)
	for range 4 {
		at = sleepFor(p, at, 1000*us)
	}
	require.Zero(t, p.window)
	require.False(t, p.shouldPoll(at))
}

func TestWithoutABoundNobodyPollsNorAsks(t *testing.T) {
	p := &poller{}
	at := sleepFor(p, 1, 0)
	require.False(t, p.shouldPoll(at)) // and oversubscribed, which is nil, is not called
}

// A crowd ends polling at once, and is asked about less and less often.
func TestACrowdIsLeftItsProcessors(t *testing.T) {
	asked, crowd := 0, true
	p := &poller{bound: 80 * us, window: 80 * us, oversubscribed: func() bool { asked++; return crowd }}
	at := int64(1)
	for range 1000 { // a second of work without a gap
		at += 1000 * us
		p.worked(at)
		require.False(t, p.shouldPoll(at))
	}
	require.Less(t, asked, 30)

	crowd = false
	at += maxBackoff
	p.worked(at)
	require.True(t, p.shouldPoll(at))
	asked = 0
	require.True(t, p.shouldPoll(at+1))
	require.Zero(t, asked, "the answer holds for a while")
}

func TestRunningThreadsAreRead(t *testing.T) {
	for text, want := range map[string]int{
		"0.20 0.18 0.12 1/80 11206\n":   1,
		"12.00 9.50 3.01 213/900 777\n": 213,
	} {
		n, ok := parseRunning([]byte(text))
		require.True(t, ok)
		require.Equal(t, want, n)
	}
	for _, text := range []string{"", "nothing", "0.20 0.18 0.12 /80 1", "1 2 3 x/80", "0 0 0 99999999999999999999/1"} {
		_, ok := parseRunning([]byte(text))
		require.False(t, ok, text)
	}
}

func TestProcessorListsAreCounted(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-3": 4, "0-1,4,6-7": 5, "": 0, "x": 0} {
		require.Equal(t, want, countList(list), list)
	}
}

func TestAskingForACrowdAllocatesNothing(t *testing.T) {
	c, err := OpenCPUPressure()
	require.NoError(t, err)
	defer c.Close()
	oversubscribed := c.probe()
	require.Zero(t, testing.AllocsPerRun(100, func() { oversubscribed() }))
	c.processors = 1 << 20
	require.False(t, oversubscribed(), "no machine has so many threads to run")
	c.processors = 0
	require.True(t, oversubscribed(), "this one runs")
}
