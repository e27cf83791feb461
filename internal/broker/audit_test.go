package broker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/logplace"
)

// eachAuditor runs a test with a broker that opens files of the audit log, and with a process that does so itself.
func eachAuditor(t *testing.T, test func(t *testing.T, c *Client, path string)) {
	t.Run("by the broker", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		test(t, startBroker(t, Duties{Audit: path}), path)
	})
	t.Run("in this process", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		place, err := logplace.Open(path)
		require.NoError(t, err)
		c := NewClient(Observer{})
		c.SetAuditPlace(place)
		test(t, c, path)
	})
}

// addTo adds text to a file that was opened, and closes it.
func addTo(t *testing.T, fd int, err error, text string) {
	t.Helper()
	require.NoError(t, err)
	_, err = unix.Write(fd, []byte(text))
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
}

func TestFilesOfTheAuditLogAreOpened(t *testing.T) {
	eachAuditor(t, func(t *testing.T, c *Client, path string) {
		fd, err := c.OpenAudit(path)
		addTo(t, fd, err, "first")
		require.NoError(t, os.Rename(path, path+".old"))
		fd, err = c.OpenAudit(path)
		addTo(t, fd, err, "second")
		_, err = c.NextAudit(path)
		require.ErrorContains(t, err, "it has 6 bytes, and is not moved before")
		require.NoError(t, os.Truncate(path, logplace.MaxSize))
		fd, err = c.NextAudit(path)
		addTo(t, fd, err, "third")
		fd, err = c.OpenAudit(filepath.Join(filepath.Dir(path), "audit-2.jsonl"))
		addTo(t, fd, err, "fourth")
		for name, want := range map[string]string{"audit.jsonl.old": "first", "audit.jsonl": "third", "audit-2.jsonl": "fourth"} {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
			require.NoError(t, err)
			require.Equal(t, want, string(text))
		}
		info, err := os.Stat(path + logplace.Before)
		require.NoError(t, err)
		require.EqualValues(t, logplace.MaxSize, info.Size())
		require.NoError(t, c.Undo())
		_, err = c.OpenAudit(path)
		require.Error(t, err)
	})
}

// A server that is in a guest's hands gets files of the log, and no others, and does not write over what is in them.
func TestAServerThatIsNotBelievedGetsNoOtherFile(t *testing.T) {
	dir := t.TempDir()
	c := startBroker(t, Duties{Audit: filepath.Join(dir, "audit.jsonl")})
	for _, name := range []string{"other.jsonl", "../other.jsonl", "audit", "..", "", "audit\x00.jsonl"} {
		for _, verb := range []string{verbAudit, verbNextAudit} {
			_, err := c.ask(request{Verb: verb, Name: []byte(name)})
			require.Error(t, err, "%s %q", verb, name)
		}
	}
	fd, err := c.OpenAudit("audit.jsonl")
	require.NoError(t, err)
	_, err = unix.Write(fd, []byte("a line\n"))
	require.NoError(t, err)
	_, err = unix.Pwrite(fd, []byte("X"), 0)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "audit.jsonl"))
	require.NoError(t, err)
	require.Equal(t, "a line\nX", string(text), "what is there is not written over")
	require.NoError(t, unix.Close(fd))

	none := startBroker(t, Duties{Read: filepath.Join(dir, "resolv.conf")})
	for _, verb := range []string{verbAudit, verbNextAudit} {
		_, err = none.ask(request{Verb: verb, Name: []byte("audit.jsonl")})
		require.ErrorContains(t, err, "nothing like that was named at the start")
	}
}

func TestTheAuditLogIsOpenedAtABoundedRate(t *testing.T) {
	c := startBroker(t, Duties{Audit: filepath.Join(t.TempDir(), "audit")})
	var err error
	for range 10 * auditBurst {
		var fd int
		if fd, err = c.OpenAudit("audit"); err != nil {
			break
		}
		require.NoError(t, unix.Close(fd))
	}
	require.ErrorContains(t, err, "opened too often")
}

func TestABrokerDoesNotStartWithoutTheDirectoryOfTheAuditLog(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none", "audit")
	require.ErrorContains(t, NewClient(Observer{}).Start(Program(os.Args[0]), Duties{Audit: none}), "no such file or directory")
}
