package daemon

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/learned"
	"github.com/vringnet/vring/netbackend/nat/audit"
)

// learning is a learner whose file is the test's, with the auditor that its book hangs at.
type learning struct {
	*learner
	audit *auditor

	mu    sync.Mutex
	texts []string // that were written
	fails error
	told  []Event
}

func newLearning() *learning {
	l := &learning{}
	tell := func(e Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, e)
	}
	l.audit = &auditor{book: learned.New(), tell: tell, wake: make(chan struct{}, 1)}
	l.learner = &learner{path: "/learned", book: l.audit.book, tell: tell, stop: make(chan struct{}), done: make(chan struct{}), file: func(text []byte) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fails == nil {
			l.texts = append(l.texts, string(text))
		}
		return l.fails
	}}
	return l
}

// written are how many texts were written, and the last of them.
func (l *learning) written() (n int, last string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.texts) == 0 {
		return 0, ""
	}
	return len(l.texts), l.texts[len(l.texts)-1]
}

func TestWhatIsNewIsWrittenEachMinuteAndInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLearning()
		guest := l.audit.add("10.0.2.15")
		l.audit.own(guest, "/run/own.sock")
		go l.run(learnInterval)
		time.Sleep(learnInterval / 2) // from here on, between two writes
		time.Sleep(10 * learnInterval)
		n, _ := l.written()
		require.Zero(t, n, "nothing has happened")
		ssh := audit.Entry{Kind: audit.Begun, Proto: 6, Name: "git.example", Answered: true, Rule: audit.NoRule, From: netip.MustParseAddrPort("10.0.2.15:1"), To: netip.MustParseAddrPort("198.51.100.1:22")}
		guest.Record(ssh)
		l.audit.round()
		time.Sleep(10 * learnInterval)
		n, text := l.written()
		require.Equal(t, 1, n)
		require.Contains(t, text, `tcp:git.example:22`)
		require.Contains(t, text, `socket-path: "/run/own.sock"`)

		l.mu.Lock()
		l.fails = errors.New("the disk is full")
		l.mu.Unlock()
		ssh.Name = "second.example"
		guest.Record(ssh)
		l.audit.round()
		time.Sleep(2 * learnInterval)
		l.mu.Lock()
		l.fails = nil
		require.Error(t, l.told[len(l.told)-1].(Learned).Err)
		l.mu.Unlock()
		time.Sleep(learnInterval)
		_, text = l.written()
		require.Contains(t, text, "second.example", "it is tried again")

		ssh.Name, ssh.To = "last.example", netip.MustParseAddrPort("198.51.100.1:443") // and has told nothing yet
		guest.Record(ssh)
		l.close(l.audit)
		_, text = l.written()
		require.Contains(t, text, "last.example")
		require.Equal(t, Learned{Path: "/learned", Rules: 3}, l.told[len(l.told)-1])
	})
}

// A file that somebody else has written is not replaced, and what was learned before is kept.
func TestAFileThatWasNotLearnedIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "learned")
	d := &Daemon{config: Config{Learn: path}, audit: &auditor{book: learned.New()}}
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	_, err := d.learnedFile()
	require.ErrorContains(t, err, "was not learned by vring")
	require.NoError(t, os.WriteFile(path, []byte(learned.Header+"# before\n"), 0o600))
	f, err := d.learnedFile()
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(f.First), learned.Header))
	before, err := os.ReadFile(path + "~")
	require.NoError(t, err)
	require.Equal(t, learned.Header+"# before\n", string(before))
	require.NoFileExists(t, path)
}

func TestLearningRunsOpen(t *testing.T) {
	n := DefaultNAT()
	n.Restrict = true
	c := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(t.TempDir(), "s")}}, NAT: &n, Learn: "/tmp/learned"}
	_, err := c.Check()
	require.ErrorContains(t, err, "--learn runs open")
	n.Restrict = false
	checked, err := c.Check()
	require.NoError(t, err)
	require.True(t, checked.parts[0].plan.(*natPlan).configs[0].Learn)
	tap := DefaultTAP()
	require.ErrorContains(t, (&Config{TAP: &tap, Learn: "x"}).checkLearn(), "only guests behind NAT")
}
