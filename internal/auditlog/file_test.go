package auditlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/audit"
)

// renamer opens files, and gives those that are full another name, of whatever size they are.
type renamer struct {
	fails error
	asked int // so often
}

func (r *renamer) OpenAudit(path string) (int, error) {
	if r.fails != nil {
		return -1, r.fails
	}
	return unix.Open(path, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
}

func (r *renamer) NextAudit(path string) (int, error) {
	r.asked++
	if r.fails != nil {
		return -1, r.fails
	}
	if err := os.Rename(path, path+Before); err != nil {
		return -1, err
	}
	return r.OpenAudit(path)
}

func newFile(t *testing.T, most int64) (*File, string) {
	path := filepath.Join(t.TempDir(), "audit")
	f, err := open(path, &renamer{}, most)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f, path
}

func content(t *testing.T, path string) string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestLinesAreAddedToWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	for i := range 3 {
		f, err := Open(path, &renamer{})
		require.NoError(t, err)
		require.NoError(t, f.Write(fmt.Appendf(nil, "%d\n", i)))
		require.NoError(t, f.Close())
	}
	require.Equal(t, "0\n1\n2\n", content(t, path))
}

func TestAFullFileBeginsAnewAndTheOneBeforeStays(t *testing.T) {
	f, path := newFile(t, 10)
	for i := range 9 {
		require.NoError(t, f.Write(fmt.Appendf(nil, "line%d\n", i)))
	}
	require.Equal(t, "line8\n", content(t, path))
	require.Equal(t, "line7\n", content(t, path+Before))
	require.NoError(t, f.Write([]byte("longer than the file may be\n")), "what is longer than a file has one of its own")
	require.Equal(t, "line8\n", content(t, path+Before))
}

// A file that cannot be begun anew does not grow, and whoever opens it is not asked with each line.
func TestAFullFileThatCannotBeginAnewDoesNotGrow(t *testing.T) {
	now, by := time.Now(), &renamer{}
	path := filepath.Join(t.TempDir(), "audit")
	f, err := open(path, by, 10)
	require.NoError(t, err)
	f.now = func() time.Time { return now }
	require.NoError(t, f.Write([]byte("first\n")))
	by.fails = errors.New("nobody answers")
	for range 3 {
		require.ErrorIs(t, f.Write([]byte("second\n")), by.fails)
	}
	require.Equal(t, 1, by.asked)
	now = now.Add(retryAfter)
	require.ErrorIs(t, f.Write([]byte("second\n")), by.fails)
	require.Equal(t, 2, by.asked)
	require.Equal(t, "first\n", content(t, path))
	by.fails, now = nil, now.Add(retryAfter)
	require.NoError(t, f.Write([]byte("third\n")))
	require.Equal(t, "third\n", content(t, path))
	require.NoError(t, f.Close())
}

// Programs that rotate logs give the file another name, or copy it and make it empty.
func TestAFileThatOthersRotateGoesOn(t *testing.T) {
	f, path := newFile(t, 20)
	require.NoError(t, f.Write([]byte("first\n")))
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, f.Write([]byte("second\n")))
	require.NoFileExists(t, path, "the file of before is written until it is opened again")
	require.NoError(t, f.Reopen())
	require.NoError(t, f.Write([]byte("third\n")))
	require.Equal(t, "first\nsecond\n", content(t, path+".old"))
	require.Equal(t, "third\n", content(t, path))
	require.EqualValues(t, len("third\n"), f.Size())

	require.NoError(t, f.Write([]byte("fourth\n")))
	require.NoError(t, os.Truncate(path, 0))
	require.NoError(t, f.Write([]byte("fifth..\n")), "it would be too long if it was not empty")
	require.Equal(t, "fifth..\n", content(t, path))
	require.NoFileExists(t, path+Before)

	f.opener.(*renamer).fails = errors.New("no right to")
	require.Error(t, f.Reopen())
	require.NoError(t, f.Write([]byte("sixth\n")), "it goes on in the file of before")
	require.Equal(t, "fifth..\nsixth\n", content(t, path))
}

// What is at the path may be full as well: it is begun anew, too, or not written.
func TestAnotherFileThatIsFullIsNotWritten(t *testing.T) {
	f, path := newFile(t, 10)
	require.NoError(t, f.Write([]byte("mine\n")))
	other := path + ".other"
	require.NoError(t, os.WriteFile(other, []byte("of others, and full\n"), 0o600))
	f.opener = stubborn(other)
	require.ErrorContains(t, f.Write([]byte("second\n")), "so is what is in its place")
	require.Equal(t, "of others, and full\n", content(t, other))
}

// stubborn opens the same file again and again.
type stubborn string

func (s stubborn) OpenAudit(string) (int, error) { return (&renamer{}).OpenAudit(string(s)) }
func (s stubborn) NextAudit(string) (int, error) { return s.OpenAudit("") }

func TestStandardOutputIsNotOpenedAgain(t *testing.T) {
	f, err := Open(Stdout, nil)
	require.NoError(t, err)
	require.NoError(t, f.Reopen())
	require.Equal(t, Stdout, f.Path())
	require.NoError(t, f.Close())
}

func TestAFullDiskLosesWholeLinesOnly(t *testing.T) {
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(full)
	f, path := newFile(t, MaxSize)
	require.NoError(t, f.Write([]byte("before\n")))
	good := f.fd
	f.fd = full
	require.ErrorIs(t, f.Write([]byte("lost\n")), unix.ENOSPC)
	f.fd = good
	require.NoError(t, f.Write([]byte("after\n")))
	require.Equal(t, "before\nafter\n", content(t, path))
}

func TestALineThatWasCutIsEndedBeforeTheNext(t *testing.T) {
	f, path := newFile(t, MaxSize)
	require.NoError(t, os.WriteFile(path, []byte("whole\ncu"), 0o600))
	again, err := Open(path, &renamer{})
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, again.Write([]byte("next\n")))
	require.Equal(t, "whole\ncu\nnext\n", content(t, path))
	require.NotNil(t, f)
}

// A process that is killed at any moment leaves whole lines, but for the last one, and none of those that it has written is missing.
func TestAProcessThatIsKilledLosesOneLineAtMost(t *testing.T) {
	if path := os.Getenv("VRING_TEST_AUDIT"); path != "" {
		f, err := open(path, &renamer{}, MaxSize)
		require.NoError(t, err)
		for i := 0; ; i++ {
			require.NoError(t, f.Write(fmt.Appendf(nil, "%d\n", i)))
			fmt.Println("wrote", i)
		}
	}
	path := filepath.Join(t.TempDir(), "audit")
	child := exec.Command(os.Args[0], "-test.run", t.Name())
	child.Env = append(os.Environ(), "VRING_TEST_AUDIT="+path)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	last := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "wrote %d", &last); err == nil && last == 500 {
			require.NoError(t, child.Process.Kill())
			break
		}
	}
	for lines.Scan() {
		_, _ = fmt.Sscanf(lines.Text(), "wrote %d", &last)
	}
	_ = child.Wait()
	kept := strings.SplitAfter(content(t, path), "\n")
	require.Greater(t, len(kept), last)
	for i, line := range kept[:len(kept)-1] {
		require.Equal(t, fmt.Sprintf("%d\n", i), line)
	}
}

func TestALineSaysWhatAnEntrySays(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	begun := audit.Entry{
		Time: at, Kind: audit.Begun, Proto: unix.IPPROTO_TCP, From: netip.MustParseAddrPort("10.0.2.15:40000"), To: netip.MustParseAddrPort("192.0.2.1:443"),
		Name: "example.org", Verdict: "allowed", Rule: 1, RuleText: "--allow-name example.org:443",
	}
	line := LineOf("10.0.2.15", &begun)
	require.JSONEq(t, `{"v":1,"time":"2026-01-02T02:04:05.000006Z","guest":"10.0.2.15","kind":"begun","proto":"tcp","from":"10.0.2.15:40000","to":"192.0.2.1:443",
		"name":"example.org","verdict":"allowed","rule":2,"rule_text":"--allow-name example.org:443"}`, string(line.Append(nil)))
	ended := begun
	ended.Kind, ended.Rule, ended.RuleText, ended.FromGuest, ended.Duration, ended.Detail = audit.Ended, audit.NoRule, "", 7, 1500*time.Millisecond, "ended_by_host"
	line = LineOf("10.0.2.15", &ended)
	require.JSONEq(t, `{"v":1,"time":"2026-01-02T02:04:05.000006Z","guest":"10.0.2.15","kind":"ended","proto":"tcp","from":"10.0.2.15:40000","to":"192.0.2.1:443",
		"name":"example.org","verdict":"allowed","why":"ended_by_host","bytes_from_guest":7,"bytes_to_guest":0,"seconds":1.5}`, string(line.Append(nil)))
	lost := LostLine("vm1", at, 12)
	require.JSONEq(t, `{"v":1,"time":"2026-01-02T02:04:05.000006Z","guest":"vm1","kind":"lost","count":12}`, string(lost.Append(nil)))
}

// Whatever bytes a name has, an entry is one line, and reads as one.
func FuzzLinesAreLines(f *testing.F) {
	f.Add("example.org", "why")
	f.Add("a\nb\"c\\d\x00\u2028", "\xff\xfe"+strings.Repeat("n", 255))
	f.Fuzz(func(t *testing.T, name, why string) {
		line := LineOf(name, &audit.Entry{Name: name, Detail: why, Others: []string{name}})
		text := line.Append(nil)
		require.Equal(t, len(text)-1, bytes.IndexByte(text, '\n'))
		require.False(t, bytes.ContainsFunc(text[:len(text)-1], func(r rune) bool { return r < ' ' }))
		var read Line
		require.NoError(t, json.Unmarshal(text, &read))
		require.Equal(t, strings.ToValidUTF8(name, "\ufffd") == name, read.Name == name)
	})
}
