package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryInputFromOutsideHasATarget(t *testing.T) {
	targets, err := findTargets(t.Context(), "github.com/vringnet/vring/...")
	require.NoError(t, err)
	const module = "github.com/vringnet/vring/"
	for _, want := range []target{
		{module + "virtqueue", "FuzzQueue"},
		{module + "vhostuser", "FuzzSession"},
		{module + "vhostuser/wire", "FuzzDecode"},
		{module + "netbackend/nat", "FuzzFrames"},
		{module + "netbackend/nat", "FuzzParseForward"},
		{module + "netbackend/nat", "FuzzParseRule"},
		{module + "netbackend/services/arp", "FuzzAnswer"},
		{module + "netbackend/services/dhcp4", "FuzzAnswer"},
		{module + "netbackend/services/dns", "FuzzDecide"},
	} {
		require.Contains(t, targets, want)
	}
}

func TestAmounts(t *testing.T) {
	for text, want := range map[string]amount{"2000x": {executions: 2000}, "10m": {time: 10 * time.Minute}} {
		got, err := parseAmount(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "x", "0x", "-1x", "10"} {
		_, err := parseAmount(text)
		require.Error(t, err, text)
	}
}

func TestRoundsFillTheTime(t *testing.T) {
	require.Equal(t, 30000, nextRound(1000, 2*time.Second, time.Minute))
	require.Equal(t, 60000, nextRound(1000, 2*time.Second, time.Hour), "a round has its length")
	require.Equal(t, 100000, nextRound(1000, time.Millisecond, time.Hour), "start-up says little")
	require.Equal(t, 100, nextRound(1000, time.Hour, time.Second))
}
