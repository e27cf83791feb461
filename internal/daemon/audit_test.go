package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/auditlog"
	"github.com/vringnet/vring/netbackend/nat/audit"
)

// newAuditor is an auditor that writes when it is told to, and what it has told.
func newAuditor(t *testing.T) (a *auditor, path string, told *[]Event) {
	path, told = filepath.Join(t.TempDir(), "audit"), new([]Event)
	out, err := auditlog.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, out.Close()) })
	return &auditor{path: path, out: out, tell: func(e Event) { *told = append(*told, e) }, wake: make(chan struct{}, 1)}, path, told
}

// linesOf are the lines of a log.
func linesOf(t *testing.T, path string) (all []auditlog.Line) {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, line := range bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'}) {
		var l auditlog.Line
		require.NoError(t, json.Unmarshal(line, &l), "%s", line)
		all = append(all, l)
	}
	return all
}

func TestEntriesOfAllGuestsAreWrittenWithTheirNames(t *testing.T) {
	a, path, told := newAuditor(t)
	first, second := a.add("10.0.2.15"), a.add("10.0.2.16")
	a.rename(second, "vm2")
	first.Record(audit.Entry{Kind: audit.Begun, Rule: audit.NoRule})
	second.Record(audit.Entry{Kind: audit.Ended, Rule: audit.NoRule})
	require.Len(t, a.wake, 1)
	require.False(t, a.round())
	lines := linesOf(t, path)
	require.Len(t, lines, 2)
	require.Equal(t, "10.0.2.15 begun", lines[0].Guest+" "+lines[0].Kind)
	require.Equal(t, "vm2 ended", lines[1].Guest+" "+lines[1].Kind)
	a.remove(second)
	require.Len(t, a.guests, 1)
	require.Empty(t, *told)
}

// A guest that tries everything has a bounded part of the log, which says how much is missing, and others have theirs.
func TestAGuestThatIsDeniedEverythingDoesNotFillTheLog(t *testing.T) {
	a, path, _ := newAuditor(t)
	noisy, quiet := a.add("noisy"), a.add("quiet")
	const tries = 100_000
	for i := range tries {
		noisy.Record(audit.Entry{Kind: audit.Denied, Rule: audit.NoRule, Name: fmt.Sprintf("%d\n\"\x00.example.org", i)})
		if i%1000 == 0 {
			quiet.Record(audit.Entry{Kind: audit.Begun, Rule: audit.NoRule})
			a.round()
		}
	}
	for a.round() {
	}
	counts, missing := map[string]int{}, uint64(0)
	for _, l := range linesOf(t, path) {
		counts[l.Guest+" "+l.Kind]++
		missing += l.Count
	}
	require.Equal(t, tries/1000, counts["quiet begun"])
	require.Less(t, counts["noisy denied"], auditBurst+60*auditRate)
	require.GreaterOrEqual(t, counts["noisy denied"], auditBurst/2)
	require.EqualValues(t, tries, uint64(counts["noisy denied"])+missing, "nothing is lost in silence")
}

func TestALogThatCannotBeWrittenIsToldOnceAndSaysWhatIsMissing(t *testing.T) {
	a, path, told := newAuditor(t)
	guest := a.add("10.0.2.15")
	good := a.out
	full, err := auditlog.Open(filepath.Join(t.TempDir(), "closed"))
	require.NoError(t, err)
	require.NoError(t, full.Close())
	a.out = full // whose descriptors are closed
	for range 3 {
		guest.Record(audit.Entry{Kind: audit.Begun, Rule: audit.NoRule})
		require.True(t, a.round())
	}
	require.Len(t, *told, 1)
	require.Error(t, (*told)[0].(AuditTrouble).Err)
	a.out = good
	guest.Record(audit.Entry{Kind: audit.Ended, Rule: audit.NoRule})
	require.False(t, a.round())
	lines := linesOf(t, path)
	require.Len(t, lines, 2)
	require.Equal(t, auditlog.KindLost, lines[0].Kind)
	require.EqualValues(t, 3, lines[0].Count)
	require.Equal(t, "ended", lines[1].Kind)
	require.Len(t, *told, 2)
	require.NoError(t, (*told)[1].(AuditTrouble).Err)
}

func TestTheAuditorWritesWithoutBeingAsked(t *testing.T) {
	a, path, _ := newAuditor(t)
	a.stop, a.done = make(chan struct{}), make(chan struct{})
	go a.run()
	guest := a.add("10.0.2.15")
	guest.Record(audit.Entry{Kind: audit.Begun, Rule: audit.NoRule})
	require.Eventually(t, func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() > 0
	}, time.Minute, time.Millisecond)
	guest.Record(audit.Entry{Kind: audit.Ended, Rule: audit.NoRule})
	close(a.stop)
	<-a.done
	require.Len(t, linesOf(t, path), 2, "what was recorded before the end is written")
}

func TestOnlyGuestsBehindNATHaveAnAuditLog(t *testing.T) {
	tap := DefaultTAP()
	c := Config{TAP: &tap, AuditLog: "-"}
	require.ErrorContains(t, c.checkAudit(), "only guests behind NAT")
	nat := DefaultNAT()
	require.NoError(t, (&Config{NAT: &nat, AuditLog: "-"}).checkAudit())
}
