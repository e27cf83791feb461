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
	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/logplace"
	"github.com/vringnet/vring/netbackend/nat/audit"
)

// newAuditor is an auditor that writes when it is told to, and what it has told.
func newAuditor(t *testing.T) (a *auditor, path string, told *[]Event) {
	path, told = filepath.Join(t.TempDir(), "audit"), new([]Event)
	out, err := auditlog.Open(path, files(t, path))
	require.NoError(t, err)
	t.Cleanup(func() { _ = out.Close() })
	return &auditor{out: out, tell: func(e Event) { *told = append(*told, e) }, wake: make(chan struct{}, 1)}, path, told
}

// files opens those of the log whose first one is at path, in this process.
func files(t *testing.T, path string) *broker.Client {
	place, err := logplace.Open(path)
	require.NoError(t, err)
	c := broker.NewClient(broker.Observer{})
	c.SetAuditPlace(place)
	t.Cleanup(func() { _ = c.Undo() })
	return c
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
	closed := filepath.Join(t.TempDir(), "closed")
	full, err := auditlog.Open(closed, files(t, closed))
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

func TestAnAuditLogThatIsOffGetsNothingAndIsNotBehind(t *testing.T) {
	a, path, _ := newAuditor(t)
	guest := a.add("10.0.2.15")
	guest.Record(audit.Entry{Kind: audit.Begun, Rule: audit.NoRule})
	a.setOff(true)
	for range 2 * auditRoom {
		guest.Record(audit.Entry{Kind: audit.Denied, Rule: audit.NoRule})
	}
	require.False(t, a.round())
	a.setOff(false)
	guest.Record(audit.Entry{Kind: audit.Ended, Rule: audit.NoRule})
	require.False(t, a.round())
	lines := linesOf(t, path)
	require.Len(t, lines, 2, "what came before is written, and what came meanwhile is neither written nor missing")
	require.Equal(t, "begun ended", lines[0].Kind+" "+lines[1].Kind)
	(*auditor)(nil).setOff(true)
}

// Each entry is in the file of its time, also those that are still waiting.
func TestTheAuditLogGoesOnInAnotherFile(t *testing.T) {
	a, path, _ := newAuditor(t)
	guest := a.add("10.0.2.15")
	record := func(name string) { guest.Record(audit.Entry{Kind: audit.Begun, Rule: audit.NoRule, Name: name}) }
	names := func(path string) (all []string) {
		for _, l := range linesOf(t, path) {
			all = append(all, l.Name)
		}
		return all
	}
	record("first")
	next, err := auditlog.Open(path+"2", files(t, path+"2"))
	require.NoError(t, err)
	require.NoError(t, a.goOnIn(next).Close())
	record("second")
	require.NoError(t, os.Rename(path+"2", path+"2.old"))
	require.NoError(t, a.reopen())
	record("third")
	a.round()
	require.Equal(t, [][]string{{"first"}, {"second"}, {"third"}}, [][]string{names(path), names(path + "2.old"), names(path + "2")})
	require.ErrorIs(t, (*auditor)(nil).reopen(), errNoAudit)
	require.ErrorIs(t, new(auditor).reopen(), errNoAudit)
	require.NoError(t, next.Close())
}

func TestWhichFileTheAuditLogMayGoOnIn(t *testing.T) {
	for _, c := range []struct{ start, after, fault string }{
		{"/d/audit.jsonl", "/d/audit-2.jsonl", ""},
		{"d/audit", "./d/audit2", ""},
		{"/d/audit.jsonl", "/d/other.jsonl", "must begin with"},
		{"/d/audit.jsonl", "audit-2.jsonl", "is not in the directory"},
		{"d/audit.jsonl", "/x/d/audit-2.jsonl", "write it as d/audit.jsonl was written"},
		{"/d/audit.jsonl", "", "writes nothing for a while"},
		{"", "/d/audit.jsonl", "while guests are served"},
		{"-", "/d/audit.jsonl", "while guests are served"},
		{"/d/audit.jsonl", "-", "while guests are served"},
	} {
		err := checkAuditFile(c.start, c.after)
		if c.fault == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.fault)
		nat := DefaultNAT()
		start := Config{NAT: &nat, AuditLog: c.start}
		now := start.Clone()
		now.AuditLog = c.after
		require.ErrorContains(t, start.CheckKept(&now), c.fault, "nor does the next process begin so")
	}
	nat := DefaultNAT()
	require.ErrorContains(t, (&Config{NAT: &nat, AuditOff: true}).checkAudit(), "there is nothing to write")
}
