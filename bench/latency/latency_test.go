package latency

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOptions(t *testing.T) {
	opt, err := parseOptions([]string{"--frames", "10", "--gap", "1ms", "--out", "x"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{frames: 10, rounds: 3, gap: time.Millisecond, polls: []int{0, 50}, out: "x"}, opt)
	for _, args := range [][]string{{"--frames", "0"}, {"--rounds", "0"}, {"--gap", "2s"}, {"more"}} {
		_, err := parseOptions(args, io.Discard)
		require.Error(t, err)
	}
}

func TestPercentiles(t *testing.T) {
	var times []time.Duration
	for i := range 101 {
		times = append(times, time.Duration(100-i))
	}
	require.EqualValues(t, 50, percentile(times, 50))
	require.EqualValues(t, 99, percentile(times, 99))
	require.EqualValues(t, 7, percentile([]time.Duration{7}, 99))
}

func TestTable(t *testing.T) {
	var d document
	for _, us := range []time.Duration{10, 30, 20} {
		d.add(0, "vring", []time.Duration{us * time.Microsecond})
	}
	d.summarize()
	var got bytes.Buffer
	require.NoError(t, d.WriteMarkdown(&got))
	require.Contains(t, got.String(), "| vring | 20.0 (10.0–30.0) | 20.0 (10.0–30.0) |\n")
	require.NoError(t, d.WriteSVG(io.Discard))
}
