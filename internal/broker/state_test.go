package broker

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// eachKeeper runs a test with a state that the broker keeps, and with one that this process does.
func eachKeeper(t *testing.T, test func(t *testing.T, path string, open func(StateFile) (*Client, error))) {
	t.Run("by the broker", func(t *testing.T) {
		test(t, filepath.Join(t.TempDir(), "state"), func(s StateFile) (*Client, error) {
			c := NewClient(Observer{})
			err := c.Start(Program(os.Args[0]), Duties{State: &s})
			if err == nil {
				c.SetPatience(time.Minute)
			}
			return c, err
		})
	})
	t.Run("in this process", func(t *testing.T) {
		test(t, filepath.Join(t.TempDir(), "state"), func(s StateFile) (*Client, error) {
			c := NewClient(Observer{})
			return c, c.OpenState(s)
		})
	})
}

func TestAStateIsKeptWhole(t *testing.T) {
	eachKeeper(t, func(t *testing.T, path string, open func(StateFile) (*Client, error)) {
		c, err := open(StateFile{Path: path, First: []byte("first")})
		require.NoError(t, err)
		require.True(t, c.KeepsState())
		for _, text := range []string{"", "one", strings.Repeat("x", MaxState), "another"} {
			require.NoError(t, c.WriteState([]byte(text)))
			is, err := os.ReadFile(path)
			require.NoError(t, err)
			require.True(t, text == string(is), "%d bytes", len(is))
		}
		require.ErrorContains(t, c.WriteState(make([]byte, MaxState+1)), "may have")
		require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(path), ".state.new"), 0o700))
		require.ErrorContains(t, c.WriteState([]byte("lost")), "is a directory")
		require.NoError(t, os.Remove(filepath.Join(filepath.Dir(path), ".state.new")))
		require.NoError(t, c.WriteState([]byte("last")))
		require.NoError(t, c.Undo())
		require.ErrorContains(t, c.WriteState([]byte("too late")), "it has ended")
		is, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, "last", string(is))
		_, err = open(StateFile{Path: path, Sum: SumOf([]byte("another"))})
		require.ErrorContains(t, err, "the file has changed meanwhile")
		c, err = open(StateFile{Path: path, Sum: SumOf(is)})
		require.NoError(t, err, "nobody has it any more")
		require.NoError(t, c.Undo())
	})
}

// The state and what is learned are two files, in two directories, and neither is taken for the other one.
func TestTheBrokerKeepsTwoFiles(t *testing.T) {
	state, learned := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "learned")
	c := NewClient(Observer{})
	require.NoError(t, c.Start(Program(os.Args[0]), Duties{State: &StateFile{Path: state}, Learned: &StateFile{Path: learned, First: []byte("nothing yet")}}))
	c.SetPatience(time.Minute)
	require.True(t, c.KeepsLearned())
	is := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, "nothing yet", is(learned))
	for range 3 {
		require.NoError(t, c.WriteState([]byte("of the state")))
		require.NoError(t, c.WriteLearned([]byte("learned")))
	}
	require.Equal(t, []string{"of the state", "learned"}, []string{is(state), is(learned)})
	require.NoError(t, c.Undo())
	require.ErrorContains(t, c.WriteLearned(nil), "it has ended")
}

func TestAStateWithoutAPlaceIsAnError(t *testing.T) {
	eachKeeper(t, func(t *testing.T, path string, open func(StateFile) (*Client, error)) {
		c, err := open(StateFile{Path: filepath.Join(path, "none")})
		require.ErrorContains(t, err, "no such file or directory")
		require.False(t, c.Started())
		require.False(t, c.KeepsState())
		require.Error(t, c.WriteState(nil))
	})
}

// A server that is in a guest's hands can write nothing but a state, of a bounded length, and ends the channel otherwise. The broker goes on.
func TestAServerThatIsNotBelievedKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	path, resolvers := filepath.Join(dir, "state"), filepath.Join(dir, "resolv.conf")
	require.NoError(t, os.WriteFile(resolvers, []byte("nameserver 192.0.2.1\n"), 0o600))
	for name, c := range map[string]struct {
		sent []byte
		ends bool // it sends no more
	}{
		"too long": {binary.BigEndian.AppendUint32(nil, MaxState+1), false}, "endless": {bytes.Repeat([]byte{0xff}, 100), false},
		"half": {[]byte{0, 0, 0, 9, 'x'}, true}, "nothing": {nil, true},
	} {
		sent, ends := c.sent, c.ends
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadFile(path)
			if err != nil {
				before = nil
			}
			c := startBroker(t, Duties{State: &StateFile{Path: path, Sum: SumOf(before), First: []byte("first")}, Read: resolvers})
			require.NoError(t, c.WriteState([]byte("good")))
			_, err = c.states.channel.Write(sent)
			require.NoError(t, err)
			if ends {
				require.NoError(t, c.states.channel.CloseWrite())
			}
			require.NoError(t, c.states.channel.SetDeadline(time.Now().Add(time.Minute)))
			_, err = c.states.channel.Read(make([]byte, 1))
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the broker has closed it")
			require.Error(t, c.WriteState([]byte("more")))
			text, err := c.ReadFile(resolvers)
			require.NoError(t, err)
			require.NotEmpty(t, text)
			require.NoError(t, c.Undo())
			is, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "good", string(is))
		})
	}
}

// An answer that says nothing that is understood is the last one.
func TestAnAnswerAboutAStateIsBounded(t *testing.T) {
	failed, unread := readStateAnswer(bytes.NewReader([]byte{0, 0}))
	require.NoError(t, failed)
	require.NoError(t, unread)
	failed, unread = readStateAnswer(bytes.NewReader([]byte{0, 1, 'x'}))
	require.EqualError(t, failed, "x")
	require.NoError(t, unread)
	var long bytes.Buffer
	require.NoError(t, writeStateAnswer(&long, &answerError{strings.Repeat("x", 2*maxStateError)}))
	failed, unread = readStateAnswer(&long)
	require.Len(t, failed.Error(), maxStateError)
	require.NoError(t, unread)
	for _, bad := range [][]byte{{}, {0}, {0, 2, 'x'}, binary.BigEndian.AppendUint16(nil, maxStateError+1)} {
		_, unread = readStateAnswer(bytes.NewReader(bad))
		require.Error(t, unread)
	}
}

// The broker that keeps a state needs no other channel, and has both.
func TestBothChannelsReachTheServer(t *testing.T) {
	dir := shortDir(t)
	c := startBroker(t, Duties{Control: filepath.Join(dir, "c"), State: &StateFile{Path: filepath.Join(dir, "state")}})
	accepted := acceptAll(t, c, filepath.Join(dir, "c"))
	connected(t, filepath.Join(dir, "c"), accepted)
	require.NoError(t, c.WriteState([]byte("x")))
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	few := &Client{duties: Duties{Control: "/c", State: new(StateFile)}}
	require.ErrorContains(t, few.takeChannels(&answer{conn: pair[0]}), "it has sent 1 channels, not 2")
	require.ErrorIs(t, unix.Close(pair[0]), unix.EBADF, "it is closed")
	require.NoError(t, unix.Close(pair[1]))
}
