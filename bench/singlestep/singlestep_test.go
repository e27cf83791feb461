package singlestep_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/bench/singlestep"
)

// loopsEnv makes this test's program the traced one: how often its loop goes round.
const loopsEnv = "SINGLESTEP_LOOPS"

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
	for range 3 {
		unix.RawSyscall(unix.SYS_TGKILL, pid, tid, uintptr(singlestep.Mark))
		spin(loops)
		unix.RawSyscall(unix.SYS_TGKILL, pid, tid, uintptr(singlestep.Mark))
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

// trace returns the three counts of a program that goes round its loop so often.
func trace(t *testing.T, loops int) (counts []int) {
	program, err := os.Executable()
	require.NoError(t, err)
	env := append(os.Environ(), fmt.Sprintf("%s=%d", loopsEnv, loops))
	err = singlestep.Trace([]string{program}, env, [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, func(next singlestep.Next) error {
		for range 3 {
			n, err := next(nil)
			if err != nil {
				return err
			}
			counts = append(counts, n)
		}
		return nil
	})
	require.NoError(t, err)
	return counts
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
