package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHostFindsGuestsByNameAndByAddress(t *testing.T) {
	r := newLabRig(t)
	file := r.write("names.yaml", `guests:
  - {name: Web, switch: lan, nat: {}}
  - {name: db, switch: lan, nat: {}}
  - {name: far, switch: {switch-name: lan, vlan: 7}, nat: {}}
  - {name: mute, switch: lan}
`)
	r.must("up", file)
	control := r.report(file).Control
	names := func(args ...string) (status int, output string) {
		cmd := program(t, append([]string{"ctl", "--control", control, "dns", "names"}, args...)...)
		text, _ := cmd.CombinedOutput() // the status tells
		return cmd.ProcessState.ExitCode(), string(text)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitOK, "web.vring.internal  10.0.2.15\n"},
		{nil, exitOK, "far.vring.internal  10.0.2.17\n"},
		{[]string{"DB"}, exitOK, "NAME               ADDRESS\ndb.vring.internal  10.0.2.16\n"},
		{[]string{"db.vring.internal."}, exitOK, "db.vring.internal  10.0.2.16\n"},
		{[]string{"10.0.2.15"}, exitOK, "NAME                ADDRESS\nweb.vring.internal  10.0.2.15\n"},
		{[]string{"far", "--from", "db"}, exitUsage, "no guest has the name or the address far"},
		{[]string{"far", "--from", "far"}, exitOK, "10.0.2.17"},
		{[]string{"nobody"}, exitUsage, "no guest has the name or the address nobody"},
		{[]string{"--from", "mute"}, exitUsage, "is not behind NAT"},
	} {
		status, output := names(c.args...)
		require.Equal(t, c.status, status, output)
		require.Contains(t, output, c.want)
	}
	_, all := names()
	require.Equal(t, 1, strings.Count(all, "web.vring"), "web finds it, and db")
	capture := filepath.Join(r.dir, "db.pcapng")
	r.must("capture", file, "db", "-w", capture, "--duration", "20ms")
	info, err := os.Stat(capture)
	require.NoError(t, err)
	require.NotZero(t, info.Size())
}
