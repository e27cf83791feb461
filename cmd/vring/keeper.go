package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/vhostuser"
)

// keeper is a process beside this one that does what this one cannot do in its sandbox: it reads resolv.conf, dials front
// ends that listen, and sets up the interfaces that it is told of at its start (see keeperStart). At the end it undoes what
// was changed on the host and removes the files of sockets, also if this process is killed. It talks to no guest.
//
// The two speak by messages of a unix socket: the keeper is ready with its first keeperAnswer, then one follows each
// keeperRequest, and the last one the end of requests. Whoever waits for an answer waits for a bounded time, and after one
// that is missing nothing is asked any more.
//
// With a log alone it is a keeper that was not started: all is done in this process then. Start is called before its other
// methods are used by several goroutines.
type keeper struct {
	// patience is how long an answer may take that a worker's thread waits for: less than worker.ReleaseTimeout.
	patience time.Duration
	log      *slog.Logger
	duties   keeperStart
	conn     *net.UnixConn // nil before it is started
	answers  chan keeperAnswer
	ending   atomic.Bool // its end is wanted

	mu      sync.Mutex // of one request and its answer
	broken  error      // there will be no answers any more
	trouble string     // why resolv.conf could not be read when it was last asked for
}

var _ tap.Administrator = (*keeper)(nil)

// keeperStart is all that the keeper is for.
type keeperStart struct {
	Mode    sandbox.Mode  // of the keeper itself
	Read    string        // file that is read
	Dial    []string      // sockets that are connected to
	Remove  []string      // files of sockets that are removed in the end
	Configs []tap.Config  // devices that are set up
	Changes []tap.Changes // of each of them, which are undone in the end
}

// empty reports whether there is nothing to do.
func (s *keeperStart) empty() bool {
	return s.Read == "" && len(s.Dial)+len(s.Remove)+len(s.Configs) == 0
}

// consequence tells what does not happen without the keeper.
func (s *keeperStart) consequence() string {
	var lost []string
	for _, duty := range []struct {
		has  bool
		lost string
	}{
		{s.Read != "", "changes of " + s.Read + " are not seen"},
		{len(s.Dial) > 0, "no front end is dialled"},
		{len(s.Remove) > 0, "the files of sockets are not removed"},
		{len(s.Configs) > 0, "the host's interfaces are not set up, and nothing is undone"},
	} {
		if duty.has {
			lost = append(lost, duty.lost)
		}
	}
	return strings.Join(lost, ", ")
}

// Verbs of requests.
const (
	verbConnect = "connect" // Device, which has come back
	verbMTU     = "mtu"     // is to be MTU, of Device
	verbDial    = "dial"    // Socket
	verbRead    = "read"    // the file
)

// keeperRequest asks for one thing.
type keeperRequest struct {
	Verb   string
	Device string `json:",omitempty"` // name
	MTU    int    `json:",omitempty"`
	Socket int    `json:",omitempty"` // index in the start's Dial
}

// keeperAnswer tells how it went.
type keeperAnswer struct {
	Error string
	Text  []byte // of the file
	conn  int    // the connection, negative for none
}

const (
	// maxRequest bounds the keeper's input, and maxAnswer its output: a file of dns.MaxFile bytes as JSON.
	maxRequest = 512
	maxAnswer  = 64 << 10
	// maxStart bounds what the keeper is told at its start: devices have some thousand VLANs.
	maxStart = 16 << 20
)

// start starts the process, for what start says. After an error there is none, and nothing was undone.
func (k *keeper) start(log *slog.Logger, start keeperStart) error {
	const generous = 20 * time.Second
	text, err := json.Marshal(start)
	if err != nil {
		return err
	}
	conn, err := runKeeper(text)
	if err != nil {
		return fmt.Errorf("start the process that does what is not possible in the sandbox: %w", err)
	}
	k.patience, k.log, k.duties, k.conn = 500*time.Millisecond, log, start, conn
	k.answers = make(chan keeperAnswer, 1)
	go k.listen(conn)
	if _, err := k.hear(generous); err != nil {
		k.ending.Store(true)
		k.duties, k.conn = keeperStart{}, nil
		return errors.Join(fmt.Errorf("start the process that does what is not possible in the sandbox: %w", err), conn.Close())
	}
	return nil
}

// started reports whether the process was started, be it still there or not.
func (k *keeper) started() bool { return k.conn != nil }

// removes reports whether the keeper removes the files of sockets.
func (k *keeper) removes() bool { return len(k.duties.Remove) > 0 }

// runKeeper starts the process and returns the socket between it and this one.
func runKeeper(start []byte) (*net.UnixConn, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "keeper"), os.NewFile(uintptr(pair[1]), "keeper's")
	defer ours.Close()
	defer theirs.Close()
	cmd := exec.Command(self, keeperCommand)
	cmd.Stdin, cmd.Stderr, cmd.ExtraFiles = bytes.NewReader(start), os.Stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no signal of the terminal is for it
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// listen receives answers until there are no more.
func (k *keeper) listen(conn *net.UnixConn) {
	defer func() {
		close(k.answers)
		if !k.ending.Load() {
			k.log.Error("the process that does what is not possible in the sandbox has ended; the guests are served, but " +
				k.duties.consequence() + " until vring is started again")
		}
	}()
	message, rights := make([]byte, maxAnswer), make([]byte, unix.CmsgSpace(4))
	for {
		n, rn, flags, _, err := conn.ReadMsgUnix(message, rights)
		if err != nil {
			return
		}
		answer := keeperAnswer{conn: descriptorOf(rights[:rn])}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || json.Unmarshal(message[:n], &answer) != nil {
			answer.drop()
			return
		}
		select {
		case k.answers <- answer:
		default: // nobody has asked
			answer.drop()
			return
		}
	}
}

// descriptorOf returns the one descriptor of a message, negative for none.
func descriptorOf(rights []byte) int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

// drop closes a connection that nobody takes.
func (a *keeperAnswer) drop() {
	if a.conn >= 0 {
		_ = unix.Close(a.conn)
	}
}

// Connect implements tap.Administrator.
func (k *keeper) Connect(device string) error {
	_, err := k.ask(keeperRequest{Verb: verbConnect, Device: device})
	return err
}

// SetMTU implements tap.Administrator.
func (k *keeper) SetMTU(device string, mtu int) error {
	_, err := k.ask(keeperRequest{Verb: verbMTU, Device: device, MTU: mtu})
	return err
}

// dial connects to a socket.
func (k *keeper) dial(ctx context.Context, path string) (*net.UnixConn, error) {
	i := slices.Index(k.duties.Dial, path)
	if i < 0 {
		return vhostuser.Dial(ctx, path)
	}
	answer, err := k.ask(keeperRequest{Verb: verbDial, Socket: i})
	if err != nil {
		return nil, err
	}
	if answer.conn < 0 {
		return nil, errors.New("the process that dials has sent no connection")
	}
	f := os.NewFile(uintptr(answer.conn), "front end")
	defer f.Close() // package net works on a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("the process that dials has sent no unix socket"), c.Close())
	}
	return conn, nil
}

// readFile reads resolv.conf, as dns.Config.Read does, and tells once why it could not. A file that cannot be read is an empty
// one; an error is that nobody has looked.
func (k *keeper) readFile(path string) ([]byte, error) {
	if path != k.duties.Read {
		text, err := dns.ReadFile(path)
		k.tellUnread(err)
		return text, nil
	}
	answer, err := k.ask(keeperRequest{Verb: verbRead})
	trouble := new(answerError)
	if err != nil && !errors.As(err, &trouble) {
		return nil, err
	}
	k.tellUnread(err)
	return answer.Text, nil
}

// tellUnread tells why resolv.conf could not be read, once for each reason; nil is that it could.
func (k *keeper) tellUnread(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if k.trouble != reason && reason != "" {
		k.log.Warn("the host's resolvers cannot be read; until they can, guests' names are not resolved", "reason", reason)
	}
	k.trouble = reason
}

// answerError is what the keeper answers if it could not do something.
type answerError struct{ text string }

func (e *answerError) Error() string { return e.text }

func (k *keeper) ask(request keeperRequest) (keeperAnswer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return keeperAnswer{}, k.broken
	}
	text, err := json.Marshal(request)
	if err != nil {
		return keeperAnswer{}, err
	}
	_ = k.conn.SetWriteDeadline(time.Now().Add(k.patience)) // a socket that takes no deadline blocks
	if _, err := k.conn.Write(text); err != nil {
		return keeperAnswer{}, k.fail(err)
	}
	return k.hear(k.patience)
}

// hear waits for an answer.
func (k *keeper) hear(patience time.Duration) (keeperAnswer, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case answer, ok := <-k.answers:
		if !ok {
			return answer, k.fail(errors.New("it has ended"))
		}
		if answer.Error != "" {
			answer.drop()
			return answer, &answerError{answer.Error}
		}
		return answer, nil
	case <-timer.C:
		return keeperAnswer{}, k.fail(os.ErrDeadlineExceeded)
	}
}

// fail gives the keeper up.
func (k *keeper) fail(reason error) error {
	k.broken = fmt.Errorf("the process that does what is not possible in the sandbox does not answer: %w", reason)
	return k.broken
}

// undo has the keeper undo what was changed and remove what was made, and waits for it.
func (k *keeper) undo() error {
	if !k.started() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.end()
	if trouble := new(answerError); err == nil || errors.As(err, &trouble) {
		return err
	}
	return fmt.Errorf("what was changed on the host is not undone: %w", err)
}

// end tells the keeper that there are no more requests, and waits for its last answer.
func (k *keeper) end() error {
	const patience = 10 * time.Second
	if k.broken != nil {
		return k.broken
	}
	k.ending.Store(true)
	if err := k.conn.CloseWrite(); err != nil {
		return err
	}
	_, err := k.hear(patience)
	return err
}
