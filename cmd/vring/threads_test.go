package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/worker"
)

func TestProcessorsAreReadAsNumbersAndRanges(t *testing.T) {
	for text, want := range map[string][]int{"": nil, "2,4-7": {2, 4, 5, 6, 7}, "3,3-3": {3, 3}} {
		c, err := (&threadFlags{cpus: text}).config()
		require.NoError(t, err)
		require.Equal(t, want, c.CPUs)
	}
}

func TestThreadFlagsThatMakeNoSense(t *testing.T) {
	for _, f := range []threadFlags{
		{poll: -1}, {poll: 1_000_001}, {cpus: "x"}, {cpus: "1-0"}, {cpus: "0,"}, {cpus: "-1"}, {cpus: "1000"}, {cpus: "99999999999"},
	} {
		c, err := f.config()
		whole := daemon.Config{Threads: c, FrontEnds: daemon.FrontEnds{FD: new(int)}, Stub: &daemon.Stub{Mode: daemon.StubNull}}
		_, wrong := whole.Check()
		require.Error(t, errors.Join(err, wrong), "%+v", f)
		whole.Threads = daemon.Threads{}
		_, wrong = whole.Check()
		require.NoError(t, wrong, "nothing else is wrong")
	}
}

func TestAThreadsStatus(t *testing.T) {
	s := worker.Stats{Turns: 3, Polled: 2, Sleeps: 1, PollMicroseconds: 50}
	require.Equal(t, "  thread on processor 4: 3 turns, found work 2 times by polling, slept 1 times; polls for 50 us now\n", formatThread(s, 4))
	require.Contains(t, formatThread(s, -1), "thread on any processor: ")
}
