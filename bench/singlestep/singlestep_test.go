package singlestep_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/bench/singlestep"
)

// loopsEnv makes this test's program the traced one: how often its loop goes round. With waitsEnv as well, it waits for another
// thread before the first round of loops.
const (
	loopsEnv = "SINGLESTEP_LOOPS"
	waitsEnv = "SINGLESTEP_WAITS"
)

func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if text := os.Getenv(loopsEnv); text != "" {
		loops, err := strconv.Atoi(text)
		if err != nil {
			panic(err)
		}
		beTraced(loops)
		return
	}
	os.Exit(m.Run())
}

// beTraced goes round a loop between two signals, three times.
func beTraced(loops int) {
	pid, tid := uintptr(os.Getpid()), uintptr(unix.Gettid())
	wait := func() {}
	if os.Getenv(waitsEnv) != "" {
		wait = answerer()
	}
	for i := range 3 {
		unix.RawSyscall(unix.SYS_TGKILL, pid, tid, uintptr(singlestep.Mark))
		if i == 0 {
			wait()
		}
		spin(loops)
		unix.RawSyscall(unix.SYS_TGKILL, pid, tid, uintptr(singlestep.Mark))
	}
}

// answerer returns what asks another thread for a byte, and waits for it.
func answerer() (ask func()) {
	var question, answer [2]int
	if unix.Pipe(question[:]) != nil || unix.Pipe(answer[:]) != nil {
		panic("no pipes")
	}
	go func() {
		runtime.LockOSThread()
		_, _ = unix.Read(question[0], make([]byte, 1))
		_, _ = unix.Write(answer[1], make([]byte, 1))
	}()
	return func() {
		_, _ = unix.Write(question[1], make([]byte, 1))
		_, _ = unix.Read(answer[0], make([]byte, 1))
	}
}

// sum is where the loop writes to, so that it is not left out.
var sum int

//go:noinline
func spin(loops int) {
	for i := range loops {
		sum ^= i
	}
}

// trace returns the three counts of a program that goes round its loop so often. A trial that got stuck is repeated.
func trace(t *testing.T, loops int) (counts []int) {
	for range 10 {
		counts, err := traceOnce(t, loops)
		if errors.Is(err, singlestep.ErrStuck) {
			continue
		}
		require.NoError(t, err)
		return counts
	}
	require.Fail(t, "each trial got stuck")
	return nil
}

func traceOnce(t *testing.T, loops int, more ...string) (counts []int, err error) {
	program, err := os.Executable()
	require.NoError(t, err)
	env := append(append(os.Environ(), fmt.Sprintf("%s=%d", loopsEnv, loops)), more...)
	files := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	var stuck error
	err = singlestep.Trace([]string{program}, env, files, func(next singlestep.Next) error {
		for range 3 {
			n, err := next(nil)
			if errors.Is(err, singlestep.ErrStuck) {
				stuck = err
				continue
			}
			if err != nil {
				return err
			}
			counts = append(counts, n)
		}
		return nil
	})
	return counts, errors.Join(err, stuck)
}

// Go's scheduler may have the stepped thread wait for one that was stopped a moment later.
func TestAThreadThatWaitsForOneThatStandsStillIsNotCounted(t *testing.T) {
	counts, err := traceOnce(t, 100, waitsEnv+"=1")
	require.ErrorIs(t, err, singlestep.ErrStuck)
	require.Len(t, counts, 2, "the program goes on, and is counted again")
	require.Equal(t, counts[0], counts[1])
}

func TestTheSameWorkHasTheSameCount(t *testing.T) {
	counts := trace(t, 100)
	require.Equal(t, counts[1], counts[2])
	require.Equal(t, counts, trace(t, 100), "in another process")
}

func TestEachRoundOfALoopIsCounted(t *testing.T) {
	none, some, more := trace(t, 0)[2], trace(t, 50)[2], trace(t, 100)[2]
	require.Greater(t, some-none, 50, "a round has several instructions")
	require.InDelta(t, more-some, some-none, 2, "and each the same ones")
}

func TestAProgramThatFailsIsAnError(t *testing.T) {
	files := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	nothing := func(singlestep.Next) error { return nil }
	require.ErrorContains(t, singlestep.Trace([]string{"/bin/false"}, nil, files, nothing), "status 1")
	require.ErrorContains(t, singlestep.Trace([]string{"/nowhere"}, nil, files, nothing), "start /nowhere under ptrace")
	once := func(next singlestep.Next) error { _, err := next(nil); return err }
	require.ErrorContains(t, singlestep.Trace([]string{"/bin/true"}, nil, files, once), "the program has ended")
}
