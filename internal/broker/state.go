package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/replacefile"
)

// What was changed while guests are served is kept in a file, of which the server sends the whole text each time, on a channel of its own: a unix
// socket between the two (SOCK_STREAM). So nobody who asks for something else waits for the disk. A text has its length before it, 4 bytes, and
// is MaxState bytes at most. The broker answers with the length of an error, 2 bytes, and its text; none is that the disk has it.

// StateFile is the file in which the state is kept.
type StateFile struct {
	Path  string // absolute
	Sum   string // SumOf what was read of it, which it must still have
	First []byte // what it has at first, if there is none
}

const (
	// MaxState is how many bytes a state has at most.
	MaxState = 512 << 10
	// stateRate is how often the file may be written in a second, after stateBurst at once. The server keeps to less.
	stateRate, stateBurst = 50, 100
	// statePatience is how long the server waits for the disk.
	statePatience = time.Minute
	maxStateError = 4 << 10
)

// SumOf tells texts of a StateFile apart; nil is that there is no file.
func SumOf(text []byte) string {
	if text == nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// open opens the place of the file.
func (s *StateFile) open() (*replacefile.Place, error) {
	p, err := replacefile.OpenPlace(s.Path, MaxState+1, s.First, func(text []byte) bool { return SumOf(text) == s.Sum })
	if err != nil {
		return nil, fmt.Errorf("the file that is kept: %w", err)
	}
	return p, nil
}

// stateKeeper writes states.
type stateKeeper struct {
	place   *replacefile.Place
	channel *net.UnixConn // to the server
	pace    *rate.Limiter
	done    chan struct{} // is closed when it writes no more
}

// openKept opens the places of what is kept, and the server's ends of the channels, in the order of the duties.
func (p *process) openKept() (theirs []*os.File, err error) {
	for _, f := range []*StateFile{p.State, p.Learned} {
		if f == nil {
			continue
		}
		k, end, failed := openKeeper(f)
		if failed != nil {
			return theirs, failed
		}
		p.keepers, theirs = append(p.keepers, k), append(theirs, end)
	}
	return theirs, nil
}

// openKeeper opens the place of a file, and the server's end of its channel.
func openKeeper(f *StateFile) (k *stateKeeper, theirs *os.File, err error) {
	place, err := f.open()
	if err != nil {
		return nil, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("socketpair", err), place.Close())
	}
	theirs = os.NewFile(uintptr(pair[1]), "kept")
	channel, err := SocketOf(os.NewFile(uintptr(pair[0]), "kept"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close(), place.Close())
	}
	return &stateKeeper{place, channel, rate.NewLimiter(stateRate, stateBurst), make(chan struct{})}, theirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// run writes what the server sends, until that has gone, or is not to be believed.
func (k *stateKeeper) run() {
	defer close(k.done)
	defer k.channel.Close()
	for {
		text, err := readState(k.channel)
		if err != nil {
			return
		}
		time.Sleep(k.pace.Reserve().Delay())
		if writeStateAnswer(k.channel, k.place.Write(text)) != nil {
			return
		}
	}
}

// close lets the last write end.
func (k *stateKeeper) close() error {
	_ = k.channel.SetReadDeadline(time.Now())
	<-k.done
	return k.place.Close()
}

// closeKept is close, of all that is kept.
func (p *process) closeKept() (err error) {
	for _, k := range p.keepers {
		err = errors.Join(err, k.close())
	}
	return err
}

// readState reads one text.
func readState(from io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxState {
		return nil, fmt.Errorf("a state of %d bytes: want %d at most", n, MaxState)
	}
	text := make([]byte, n)
	_, err := io.ReadFull(from, text)
	return text, err
}

// writeState writes what readState reads.
func writeState(to io.Writer, text []byte) error {
	_, err := to.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

// writeStateAnswer tells what became of a state.
func writeStateAnswer(to io.Writer, failed error) error {
	why := ""
	if failed != nil {
		why = failed.Error()
		why = why[:min(len(why), maxStateError)]
	}
	_, err := to.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(why))), why...))
	return err
}

// readStateAnswer reads what writeStateAnswer writes. unread is that there is no answer.
func readStateAnswer(from io.Reader) (failed, unread error) {
	var head [2]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(head[:])
	if n > maxStateError {
		return nil, errors.New("the answer is too long")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(from, text); err != nil {
		return nil, err
	}
	if n > 0 {
		return &answerError{string(text)}, nil
	}
	return nil, nil
}

// states is the client's side of the state.
type states struct {
	mu      sync.Mutex         // of one write
	channel *net.UnixConn      // to the broker; nil for none
	place   *replacefile.Place // without a broker; nil for none
	broken  error              // nothing is kept any more
}

// KeepsState reports whether there is a file of the state.
func (c *Client) KeepsState() bool { return c.states.channel != nil || c.states.place != nil }

// OpenState opens the file of the state in this process, where there is no broker. Undo closes it.
func (c *Client) OpenState(s StateFile) (err error) {
	c.states.place, err = s.open()
	return err
}

// WriteState keeps a state in its file, and returns when the disk has it. The file has one state or the other, whole, whatever happens. After an
// error it may have either.
func (c *Client) WriteState(text []byte) error { return c.states.write(text) }

// KeepsLearned reports whether there is a file of what is learned.
func (c *Client) KeepsLearned() bool { return c.learned.channel != nil || c.learned.place != nil }

// OpenLearned opens the file of what is learned in this process, where there is no broker. Undo closes it.
func (c *Client) OpenLearned(f StateFile) (err error) {
	c.learned.place, err = f.open()
	return err
}

// WriteLearned is WriteState for what is learned.
func (c *Client) WriteLearned(text []byte) error { return c.learned.write(text) }

// write writes the file, and returns when the disk has it.
func (s *states) write(text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(text) > MaxState:
		return fmt.Errorf("the file would have %d bytes, and may have %d", len(text), MaxState)
	case s.broken != nil:
		return s.broken
	case s.place != nil:
		return s.place.Write(text)
	case s.channel == nil:
		return errors.New("there is no file to write")
	}
	_ = s.channel.SetDeadline(time.Now().Add(statePatience))
	err := writeState(s.channel, text)
	if err == nil {
		var failed error
		if failed, err = readStateAnswer(s.channel); err == nil {
			return failed
		}
	}
	s.broken = fmt.Errorf("the process that writes the file does not answer: %w", err)
	_ = s.channel.Close() // what it would answer later belongs to nobody
	return s.broken
}

// close ends what WriteState needs.
func (s *states) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = errEnded
	if s.channel != nil {
		_ = s.channel.Close() // it may be closed already
	}
	if s.place != nil {
		return s.place.Close()
	}
	return nil
}
