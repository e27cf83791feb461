package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// Metrics are told from the sandbox, by a listener that was opened before it.
func TestMetricsAreToldFromTheSandbox(t *testing.T) {
	for command, want := range map[string]string{"nat": "vring_nat_frames_in_total{", "stub": "vring_stub_frames_total{"} {
		for _, at := range []string{"127.0.0.1:9100", "[::1]:9100"} {
			t.Run(command+" "+at, func(t *testing.T) {
				inNamespace(t)
				lo, err := netlink.LinkByName("lo")
				require.NoError(t, err)
				require.NoError(t, netlink.LinkSetUp(lo))
				option := at
				if at == "127.0.0.1:9100" {
					option = "9100"
				}
				cmd := startReady(t, "", command, "--socket-path", filepath.Join(shortDir(t), "s"), "--metrics", option)
				for range 2 {
					require.Contains(t, readPage(t, at), want)
				}
				requireStop(t, cmd)
			})
		}
	}
}

// readPage reads the metrics at an address. It dials on the caller's thread, whose network it is.
func readPage(t *testing.T, at string) string {
	c, err := net.Dial("tcp", at)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: "+at+"\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}
