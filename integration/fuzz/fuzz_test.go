package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryInputFromOutsideHasATarget(t *testing.T) {
	targets, err := findTargets(t.Context())
	require.NoError(t, err)
	for i := range targets {
		targets[i].dir = ""
	}
	const module = "github.com/vringnet/vring/"
	for _, want := range []target{
		{pkg: module + "virtqueue", name: "FuzzQueue"},
		{pkg: module + "vhostuser", name: "FuzzSession"},
		{pkg: module + "vhostuser/wire", name: "FuzzDecode"},
		{pkg: module + "netbackend/vxlan", name: "FuzzDatagrams"},
		{pkg: module + "netbackend/nat", name: "FuzzFrames"},
		{pkg: module + "netbackend/nat", name: "FuzzWorld"},
		{pkg: module + "netbackend/nat/internal/multicast", name: "FuzzMessage"},
		{pkg: module + "netbackend/nat/internal/tlshello", name: "FuzzHello"},
		{pkg: module + "netbackend/nat/internal/httphead", name: "FuzzRequest"},
		{pkg: module + "netbackend/nat/internal/quichello", name: "FuzzReader"},
		{pkg: module + "netbackend/nat/spec", name: "FuzzParseForward"},
		{pkg: module + "netbackend/nat/spec", name: "FuzzParseRule"},
		{pkg: module + "internal/configfile", name: "FuzzParse"},
		{pkg: module + "netbackend/services/arp", name: "FuzzAnswer"},
		{pkg: module + "netbackend/services/dhcp4", name: "FuzzAnswer"},
		{pkg: module + "netbackend/services/dhcp6", name: "FuzzAnswer"},
		{pkg: module + "netbackend/services/ndp", name: "FuzzAnswer"},
		{pkg: module + "netbackend/services/hostconf", name: "FuzzParse"},
		{pkg: module + "netbackend/services/dns", name: "FuzzInspect"},
		{pkg: module + "bench/adb/adbd", name: "FuzzReadHeader"},
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
