package machine

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestProcessorModel(t *testing.T) {
	const cpuinfo = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some: Processor\n\nprocessor\t: 1\nmodel name\t: Other\n"
	require.Equal(t, "Some: Processor", processorModel(cpuinfo))
	require.Empty(t, processorModel("Processor\t: ARMv8\n"))
}

func TestParseStat(t *testing.T) {
	for _, test := range []struct {
		name      string
		stat      string
		pid, pgrp int
		ok        bool
	}{
		{"plain", "12 (vring) S 3 4 5 0", 12, 4, true},
		{"a name with a parenthesis and spaces", "12 (a) S 9 9 (b) R 3 4 5", 12, 4, true},
		{"no name", "12 vring S 3 4", 0, 0, false},
		{"cut off", "12 (vring) S 3", 0, 0, false},
		{"parentheses the wrong way round", "12 )vring( S 3 4", 0, 0, false},
		{"empty", "", 0, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			pid, pgrp, err := parseStat(test.stat)
			require.Equal(t, test.ok, err == nil, "%v", err)
			if test.ok {
				require.Equal(t, []int{test.pid, test.pgrp}, []int{pid, pgrp})
			}
		})
	}
}

func TestGroupCPUCountsThisProcess(t *testing.T) {
	used, err := GroupCPU(unix.Getpgrp())
	require.NoError(t, err)
	require.Positive(t, used)
}

func TestGroupCPUTellsThatNobodyIsThere(t *testing.T) {
	const impossible = 1 << 30 // above the largest identifier, see proc_sys_kernel(5)
	_, err := GroupCPU(impossible)
	require.EqualError(t, err, "process group 1073741824 has ended")
}
