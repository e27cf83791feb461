package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/worker"
)

func TestThreadsGetProcessorsInTurn(t *testing.T) {
	require.Equal(t, []int{4, 5, 6}, rotated([]int{4, 5, 6}, 0))
	require.Equal(t, []int{5, 6, 4}, rotated([]int{4, 5, 6}, 1))
	require.Equal(t, []int{4, 5, 6}, rotated([]int{4, 5, 6}, 6))
	require.Empty(t, rotated(nil, 5))
}

func TestProcessorsAreThoseOfTheProcess(t *testing.T) {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	f := threadFlags{cpus: fmt.Sprintf("%d,%d-%d", cpu, cpu, cpu)}
	require.NoError(t, f.check())
	require.Equal(t, []int{cpu, cpu}, f.from(0))
	require.NoError(t, new(threadFlags).check())
	require.Empty(t, new(threadFlags).from(1))
}

func TestThreadFlagsThatMakeNoSense(t *testing.T) {
	for _, f := range []threadFlags{
		{poll: -1}, {poll: maxPoll + 1}, {cpus: "x"}, {cpus: "1-0"}, {cpus: "0,"}, {cpus: "-1"}, {cpus: "1000"}, {cpus: "99999999999"},
	} {
		require.Error(t, f.check(), "%+v", f)
	}
}

func TestAThreadsStatus(t *testing.T) {
	s := worker.Stats{Turns: 3, Polled: 2, Sleeps: 1, PollMicroseconds: 50}
	require.Equal(t, "  thread on processor 4: 3 turns, found work 2 times by polling, slept 1 times; polls for 50 us now\n", formatThread(s, 4))
	require.Contains(t, formatThread(s, -1), "thread on any processor: ")
}
