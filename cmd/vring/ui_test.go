package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheWebPageIsOnTheLoopback(t *testing.T) {
	for text, want := range map[string]string{
		"8000": "127.0.0.1:8000", "localhost:8000": "127.0.0.1:8000", "127.0.0.2:0": "127.0.0.2:0", "[::1]:8000": "[::1]:8000",
	} {
		at, err := parseListen(text)
		require.NoError(t, err)
		require.Equal(t, want, at.String())
	}
	for text, want := range map[string]string{
		"":             `--listen "": want [ADDRESS:]PORT`,
		"70000":        `--listen "70000": want [ADDRESS:]PORT`,
		"host:80":      `--listen "host:80": want [ADDRESS:]PORT`,
		"0.0.0.0:8000": "--listen 0.0.0.0:8000: the page is not encrypted, so it is on the loopback only, as in 127.0.0.1:8000; from another host use ssh -L 8000:127.0.0.1:8000",
	} {
		status, _, stderr := runHere(t, "ui", "--control", "/nonexistent/ctl", "--listen", text)
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, want)
	}
	status, _, stderr := runHere(t, "top", "--control", "/nonexistent/ctl")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "vring top needs a terminal")
}
