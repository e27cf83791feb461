package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

func TestTheAuditLogOfARunningVringIsChanged(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run("sandbox "+mode, func(t *testing.T) {
			dir := t.TempDir()
			path, other := filepath.Join(dir, "audit.jsonl"), filepath.Join(dir, "audit-2.jsonl")
			c := startControlled(t, "--sandbox", mode, "--dns", "192.0.2.53", "--audit-log", path)
			require.Equal(t, "FILE"+strings.Repeat(" ", len(path)-2)+"STATE  BYTES\n"+path+"  on     0\n", c.requireCtl("audit", "show"))
			require.Equal(t, "- audit-off: false\n+ audit-off: true\n", c.requireCtl("audit", "off"))
			require.Contains(t, c.requireCtl("audit", "show"), "  off  ")
			require.Contains(t, c.requireCtl("audit", "off"), "nothing has changed")
			require.Equal(t, "- audit-off: true\n+ audit-off: false\n", c.requireCtl("audit", "on"))

			require.NoError(t, os.Rename(path, path+".old"))
			c.requireCtl("audit", "reopen")
			require.FileExists(t, path)
			require.Equal(t, "- audit-log: "+path+"\n+ audit-log: "+other+"\n", c.requireCtl("audit", "to", other))
			require.FileExists(t, other)
			var now api.AuditLog
			require.NoError(t, json.Unmarshal([]byte(c.requireCtl("audit", "show", "-o", "json")), &now))
			require.Equal(t, api.AuditLog{Path: other, On: true}, now)
			for _, args := range [][]string{{"to", filepath.Join(dir, "other")}, {"to", "/etc/audit.jsonl"}, {"to", "-"}} {
				status, _, stderr := c.ctl(append([]string{"audit"}, args...)...)
				require.Equal(t, exitUsage, status)
				require.Contains(t, stderr, "audit-log")
			}
			require.NoError(t, os.Mkdir(filepath.Join(dir, "audit-3.jsonl"), 0o700))
			status, _, stderr := c.ctl("audit", "to", filepath.Join(dir, "audit-3.jsonl"))
			require.NotEqual(t, exitOK, status)
			require.Contains(t, stderr, "is a directory")
			c.requireCtl("audit", "reopen")
			c.requireCtl("audit", "to", path)
			there, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, there, 4, "no other file was made")
		})
	}
}

func TestAVringWithoutAnAuditLogSaysSo(t *testing.T) {
	c := startControlled(t, "--dns", "192.0.2.53")
	require.Equal(t, "FILE  STATE  BYTES\n-     none   0\n", c.requireCtl("audit", "show"))
	for args, want := range map[string]string{
		"audit on":             "nothing has changed",
		"audit off":            "audit-off without audit-log",
		"audit reopen":         "there is no audit log",
		"audit to /tmp/x":      "cannot change from",
		"audit to":             "want one file",
		"audit shift":          `unexpected "shift"`,
		"learned":              "nothing is learned; vring nat --learn FILE does",
		"learned 10.0.2.15":    "nothing is learned; --learn FILE does",
		"learned 10.0.2.99":    `there is no guest "10.0.2.99"`,
		"learned one too-many": "want one guest at most",
	} {
		_, stdout, stderr := c.ctl(strings.Fields(args)...)
		require.Contains(t, stdout+stderr, want, args)
	}
}

// SIGHUP lets the audit log go on in the file that is at its path, whatever the configuration says.
func TestTheAuditLogIsOpenedAgainByAReload(t *testing.T) {
	file := "guests: [{socket-path: DIR/s}]\naudit-log: DIR/audit.jsonl\nnat:\n  dns: [192.0.2.53]\n"
	r := startReloaded(t, file)
	defer r.stop()
	path := filepath.Join(r.dir, "audit.jsonl")
	require.NoError(t, os.Rename(path, path+".1"))
	r.reload("read again")
	require.Eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, time.Minute, 10*time.Millisecond)
	r.write(strings.Replace(file, "audit.jsonl", "audit-b.jsonl\naudit-off: true", 1))
	require.Contains(t, r.reload("read again"), `changed="audit-log audit-off"`)
	require.FileExists(t, filepath.Join(r.dir, "audit-b.jsonl"))
	r.write(strings.Replace(file, "audit.jsonl", "other.jsonl", 1))
	require.Contains(t, r.reload("is not adopted"), "must begin with")
	r.write(strings.Replace(file, "audit.jsonl", "audit-b.jsonl", 1))
	r.reload("read again")
	require.NoError(t, os.Remove(filepath.Join(r.dir, "audit-b.jsonl")))
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "audit-b.jsonl"), 0o700))
	require.Contains(t, r.reload("goes on in the file of before"), "is a directory")
}

func TestWhatIsLearnedIsTold(t *testing.T) {
	c := startControlled(t, "--dns", "192.0.2.53", "--learn", filepath.Join(t.TempDir(), "learned.yaml"))
	require.Equal(t, "GUEST  RULE  USES  FIRST  LAST  CALLED\n", c.requireCtl("learned"))
	var all []guestLearned
	require.NoError(t, json.Unmarshal([]byte(c.requireCtl("learned", "10.0.2.15", "-o", "json")), &all))
	require.Equal(t, []guestLearned{{"10.0.2.15", api.Learned{Rules: []api.LearnedRule{}, Asked: []api.AskedName{}}}}, all)

	var out strings.Builder
	learnedReport{{"vm1", api.Learned{
		Rules: []api.LearnedRule{{Rule: "--allow tcp:192.0.2.1:22", Count: 7, First: "F", Last: "L", Note: "\x1b[2J"}},
		Asked: []api.AskedName{{Name: "a.example", Count: 2, First: "F", Last: "L"}}, Telling: 1, LeftOut: 2, Lost: 3,
	}}}.print(&out)
	require.Equal(t, "GUEST  RULE                      USES  FIRST  LAST  CALLED\n"+
		"vm1    --allow tcp:192.0.2.1:22  7     F      L     \"\\x1b[2J\"\n"+
		"vm1    (asked for) a.example     2     F      L     -\n"+
		"guest vm1: 1 connections have yet to tell their server, 2 connections or names had no room, 3 were not seen\n", out.String())
}
