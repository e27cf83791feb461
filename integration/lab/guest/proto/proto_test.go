package proto

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARequestSurvivesTheWire(t *testing.T) {
	want := Request{ID: 7, Command: "tcp-dial", Args: []string{"10.0.2.2:80", "5", "1"}}
	got, err := ParseRequest(want.String() + "\r\n")
	require.NoError(t, err)
	require.Equal(t, want, got)

	for _, line := range []string{"", "7", "seven tcp-dial"} {
		_, err := ParseRequest(line)
		require.Error(t, err, "%q", line)
	}
}

func TestAnAnswerIsFoundBehindKernelMessages(t *testing.T) {
	want := NewAnswer(3, OK, Text{Text: "a\nb"})
	got, ok := ParseAnswer("[    1.5] virtio_net " + want.String() + "\r\n")
	require.True(t, ok)
	require.Equal(t, want, got)

	for _, line := range []string{"", "@vring", "@vring 3 ok", "@vring x ok {}", "@vring 3 ok {broken", "vring 3 ok {}"} {
		_, ok := ParseAnswer(line)
		require.False(t, ok, "%q", line)
	}
}

func TestPatternDependsOnSeedAndLengthOnly(t *testing.T) {
	const n = 3*patternBlock + 17
	whole, err := io.ReadAll(Pattern(1, n))
	require.NoError(t, err)
	require.Len(t, whole, n)

	again := make([]byte, n)
	_, err = io.ReadFull(Pattern(1, n), again)
	require.NoError(t, err)
	require.Equal(t, whole, again)

	require.Equal(t, PatternSum(1, n), PatternSum(1, n))
	require.NotEqual(t, PatternSum(1, n), PatternSum(2, n))
	require.NotEqual(t, PatternSum(1, n), PatternSum(1, n-1))
	require.NotEqual(t, whole[:patternBlock], whole[patternBlock:2*patternBlock], "repetitions are numbered")
}
