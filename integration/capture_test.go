package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// requireCapture captures transfers of the guest while they pass. In the file, tshark finds both directions of each connection, whole, in segments
// that a wire would carry, with checksums that are right.
func (l *lab) requireCapture() {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "guest.pcapng")
	said := new(strings.Builder)
	capture := exec.CommandContext(l.ctx, built.vring, "ctl", "--socket-path", l.vring.Socket, "capture", "10.0.2.15", "--gso", "cut", "-w", path,
		fmt.Sprint("tcp port ", guestTCPPort))
	capture.Stderr = said
	require.NoError(l.t, capture.Start())
	require.Eventually(l.t, func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0
	}, time.Minute, time.Millisecond, "it begins")
	port := freePort(l.t)
	forward := fmt.Sprintf("%d:%d", port, guestTCPPort)
	l.vring.ctl("forward", "add", forward)
	l.transferBy("tcp4", local(port))
	l.vring.ctl("forward", "remove", forward)
	require.NoError(l.t, capture.Process.Signal(os.Interrupt))
	require.NoError(l.t, capture.Wait(), said.String())
	require.Regexp(l.t, regexp.MustCompile(`^[1-9]\d* packets captured, 0 missed\n$`), said.String())

	rows := l.tshark(path, "frame.interface_name", "frame.packet_flags_direction", "frame.len", "tcp.checksum.status", "ip.checksum.status",
		"tcp.flags.syn", "tcp.len", "tcp.analysis.lost_segment", "tcp.analysis.ack_lost_segment")
	var sent [3]int // payload by direction: 1 to the guest, 2 from it
	for _, row := range rows {
		require.Equal(l.t, "10.0.2.15 queue 0", row[0])
		way := l.number(row[1])
		require.Contains(l.t, []int{1, 2}, way)
		require.LessOrEqual(l.t, l.number(row[2]), 1514, "it is cut")
		require.Equal(l.t, []string{"1", "1"}, row[3:5], "TCP's checksum and that of IPv4 are right")
		require.Equal(l.t, []string{"", ""}, row[7:9], "nothing is missing")
		sent[way] += l.number(row[6])
	}
	require.True(l.t, slices.ContainsFunc(rows, func(row []string) bool { return row[5] == "1" || row[5] == "True" }))
	require.GreaterOrEqual(l.t, sent[1], labBytes)
	require.GreaterOrEqual(l.t, sent[2], labBytes)
	l.t.Logf("captured: %d segments, %d bytes to the guest, %d from it", len(rows), sent[1], sent[2])
}

// number reads a number of tshark's.
func (l *lab) number(text string) int {
	l.t.Helper()
	n, err := strconv.ParseInt(text, 0, 64)
	require.NoError(l.t, err)
	return int(n)
}

// tshark is what tshark tells of the packets of a file.
func (l *lab) tshark(path string, fields ...string) (rows [][]string) {
	l.t.Helper()
	args := []string{"-n", "-r", path, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields"}
	for _, name := range fields {
		args = append(args, "-e", name)
	}
	out, err := exec.CommandContext(l.ctx, "tshark", args...).Output()
	require.NoError(l.t, err)
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
	}
	require.NotEmpty(l.t, rows)
	return rows
}
