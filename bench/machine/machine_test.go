package machine

import (
	"io/fs"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/bench/measure"
)

func TestProcessorModel(t *testing.T) {
	const cpuinfo = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some: Processor\n\nprocessor\t: 1\nmodel name\t: Other\n"
	require.Equal(t, "Some: Processor", processorModel(cpuinfo))
	require.Empty(t, processorModel("Processor\t: ARMv8\n"))
}

func TestParseStat(t *testing.T) {
	for _, test := range []struct {
		name              string
		stat              string
		pid, parent, pgrp int
		ok                bool
	}{
		{"plain", "12 (vring) S 3 4 5 0", 12, 3, 4, true},
		{"a name with a parenthesis and spaces", "12 (a) S 9 9 (b) R 3 4 5", 12, 3, 4, true},
		{"no name", "12 vring S 3 4", 0, 0, 0, false},
		{"cut off", "12 (vring) S 3", 0, 0, 0, false},
		{"parentheses the wrong way round", "12 )vring( S 3 4", 0, 0, 0, false},
		{"empty", "", 0, 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			pid, parent, pgrp, err := parseStat(test.stat)
			require.Equal(t, test.ok, err == nil, "%v", err)
			if test.ok {
				require.Equal(t, []int{test.pid, test.parent, test.pgrp}, []int{pid, parent, pgrp})
			}
		})
	}
}

func TestGroupTimesCountsThisProcess(t *testing.T) {
	used, err := GroupTimes(unix.Getpgrp())
	require.NoError(t, err)
	require.Positive(t, used.Running)
}

func TestThreadTimesCountsThisThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used, err := ThreadTimes(unix.Getpid(), unix.Gettid())
	require.NoError(t, err)
	require.Positive(t, used.Running)
	_, err = ThreadTimes(unix.Getpid(), 1<<30)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestGroupTimesTellsThatNobodyIsThere(t *testing.T) {
	const impossible = 1 << 30 // above the largest identifier, see proc_sys_kernel(5)
	_, err := GroupTimes(impossible)
	require.EqualError(t, err, "process group 1073741824 has ended")
}

func TestParseSchedstat(t *testing.T) {
	times, err := parseSchedstat("98826 1270712 2\n")
	require.NoError(t, err)
	require.Equal(t, measure.Times{Running: 98826, Waiting: 1270712}, times)
	for _, bad := range []string{"", "1 2", "1 2 3 4", "a 2 3", "1 b 3"} {
		_, err := parseSchedstat(bad)
		require.Error(t, err, bad)
	}
}
