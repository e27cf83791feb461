package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/regularfile"
	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/tap"
)

// Observer is told what users must learn of the broker. Its functions may be called on any goroutine; nil is nobody.
type Observer struct {
	// Ended tells that the broker has ended before its time: nothing of its duties is done any more.
	Ended func(Duties)
	// Unread tells why resolv.conf cannot be read, once for each reason.
	Unread func(reason string)
}

// Client asks the broker. Before Start, and without duties, it is that of no broker: what it is asked for is done in this
// process then. Start is called before several goroutines use the other methods.
type Client struct {
	// hurried is how long an answer may take that a worker's thread waits for, less than worker.ReleaseTimeout; patient is that for others.
	hurried, patient time.Duration
	observer         Observer
	duties           Duties
	conn             *net.UnixConn // nil before it is started
	channel          *net.UnixConn // on which connections to the control socket come; nil for none
	states           states        // the file of the state
	learned          states        // that of what is learned
	audits           audits        // files of the audit log
	ending           atomic.Bool   // its end is wanted

	mu      sync.Mutex // guards what follows, and the order of requests
	waiting []*waiter  // one for each request that is not answered, in their order, which is that of answers
	late    int        // how many of them have given up
	broken  error      // there will be no answers any more
	trouble string     // why resolv.conf could not be read when it was last asked for
}

// waiter is who waits for an answer. The Client's lock guards it.
type waiter struct {
	answers chan answer // has room for one; is closed if there will be none
	gone    bool        // it has given up
}

func newWaiter() *waiter { return &waiter{answers: make(chan answer, 1)} }

var _ tap.Administrator = (*Client)(nil)

// NewClient returns the client of a broker that is not started.
func NewClient(observer Observer) *Client {
	if observer.Ended == nil {
		observer.Ended = func(Duties) {}
	}
	if observer.Unread == nil {
		observer.Unread = func(string) {}
	}
	return &Client{observer: observer}
}

// Starter lets a process become the broker: one that calls Run, whose standard input are duties. It returns the socket to it.
type Starter func(duties []byte) (*net.UnixConn, error)

// startPatience is how long the broker may take to read its duties, and to be ready.
const startPatience = 20 * time.Second

// Start starts the broker. Without a Starter it fails. After an error there is no broker, and nothing was undone.
//
// What was changed on the host so far is the broker's from now on; after an error it is nobody's.
func (c *Client) Start(start Starter, duties Duties) error {
	if duties.Undo != nil {
		defer duties.Undo.Release()
	}
	text, err := json.Marshal(duties)
	if err != nil {
		return err
	}
	if start == nil {
		return errors.New("start the process that does what is not possible in the sandbox: its program is missing")
	}
	conn, err := start(text)
	if err != nil {
		return fmt.Errorf("start the process that does what is not possible in the sandbox: %w", err)
	}
	c.hurried, c.patient, c.duties, c.conn = 500*time.Millisecond, 10*time.Second, duties, conn
	w := newWaiter()
	c.waiting = []*waiter{w}
	go c.listen(conn)
	first, err := c.hear(w, startPatience)
	if err == nil {
		err = c.takeChannels(&first)
	}
	if err != nil {
		c.ending.Store(true)
		c.duties, c.conn = Duties{}, nil
		return errors.Join(fmt.Errorf("start the process that does what is not possible in the sandbox: %w", err), conn.Close())
	}
	if duties.Audit != "" {
		return c.audits.close()
	}
	return nil
}

// takeChannels takes what the broker's first answer has.
func (c *Client) takeChannels(first *answer) (err error) {
	var fds []int
	if first.conn >= 0 {
		fds = append([]int{first.conn}, first.more...)
	}
	var wanted []**net.UnixConn
	if c.duties.Control != "" {
		wanted = append(wanted, &c.channel)
	}
	if c.duties.State != nil {
		wanted = append(wanted, &c.states.channel)
	}
	if c.duties.Learned != nil {
		wanted = append(wanted, &c.learned.channel)
	}
	if len(fds) != len(wanted) {
		closeDescriptors(fds)
		return fmt.Errorf("it has sent %d channels, not %d", len(fds), len(wanted))
	}
	for i, fd := range fds {
		var failed error
		*wanted[i], failed = SocketOf(os.NewFile(uintptr(fd), "channel"))
		err = errors.Join(err, failed)
	}
	return err
}

// SetPatience bounds how long any answer may take. It is for tests, on machines that are busy: it is called after Start and before
// several goroutines ask.
func (c *Client) SetPatience(d time.Duration) { c.hurried, c.patient = d, d }

// Started reports whether the process was started, be it still there or not.
func (c *Client) Started() bool { return c.conn != nil }

// Removes reports whether the broker removes the files of sockets.
func (c *Client) Removes() bool { return c.duties.Removes() }

// Program starts a program, with its arguments, that calls Run. Without one it is nil.
func Program(argv ...string) Starter {
	if len(argv) == 0 {
		return nil
	}
	return func(duties []byte) (*net.UnixConn, error) { return run(argv, duties) }
}

// run starts the process and returns the socket between it and this one.
func run(program []string, duties []byte) (*net.UnixConn, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer out.Close()
	_, socket, err := Spawn(program, in)
	if err := errors.Join(err, in.Close()); err != nil {
		return nil, err
	}
	conn, err := SocketOf(socket)
	if err != nil {
		return nil, err
	}
	_ = out.SetWriteDeadline(time.Now().Add(startPatience)) // which a pipe of package os takes
	if _, err := out.Write(duties); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Spawn starts a program, with its arguments, that calls Run. It reads its duties from in, and its requests come by the socket that
// is returned. Both are the caller's to close.
func Spawn(program []string, in *os.File) (*os.Process, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "broker"), os.NewFile(uintptr(pair[1]), "broker's")
	defer theirs.Close()
	p, err := os.StartProcess(program[0], program, &os.ProcAttr{
		Files: []*os.File{in, nil, os.Stderr, theirs}, // see Run
		Sys:   &syscall.SysProcAttr{Setsid: true},     // no signal of the terminal is for it
	})
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close())
	}
	return p, ours, nil
}

// SocketOf returns the unix socket that is open as f, which it closes.
func SocketOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close() // package net works on a duplicate
	some, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := some.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: no unix socket", f.Name()), some.Close())
	}
	return conn, nil
}

// listen receives answers until there are no more.
func (c *Client) listen(conn *net.UnixConn) {
	defer c.noMoreAnswers(c.duties)
	const channels = 3 // of the first answer, at most
	message, rights := make([]byte, maxAnswer), make([]byte, unix.CmsgSpace(channels*4))
	for first := true; ; first = false {
		n, rn, flags, _, err := conn.ReadMsgUnix(message, rights)
		if err != nil {
			return
		}
		a := answer{conn: -1}
		if first {
			if fds := descriptorsOf(rights[:rn]); len(fds) > 0 {
				a.conn, a.more = fds[0], fds[1:]
			}
		} else {
			a.conn = descriptorOf(rights[:rn])
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || json.Unmarshal(message[:n], &a) != nil || !c.deliver(a) {
			a.drop()
			return
		}
	}
}

// noMoreAnswers tells all who wait that the broker has ended.
func (c *Client) noMoreAnswers(duties Duties) {
	c.mu.Lock()
	for _, w := range c.waiting {
		close(w.answers)
	}
	c.waiting = nil
	c.broken = unanswered(errEnded)
	c.mu.Unlock()
	if !c.ending.Load() {
		c.observer.Ended(duties)
	}
}

// deliver gives an answer to who has waited longest. It reports whether somebody has asked.
func (c *Client) deliver(a answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return false
	}
	w := c.waiting[0]
	c.waiting = c.waiting[1:]
	if w.gone {
		c.late--
		a.drop()
		return true
	}
	w.answers <- a
	return true
}

// Connect implements tap.Administrator.
func (c *Client) Connect(device string) error {
	_, err := c.askHurried(request{Verb: verbConnect, Device: device})
	return err
}

// SetMTU implements tap.Administrator.
func (c *Client) SetMTU(device string, mtu int) error {
	_, err := c.askHurried(request{Verb: verbMTU, Device: device, MTU: mtu})
	return err
}

// Ending reports whether the broker was told to undo everything.
func (c *Client) Ending() bool { return c.ending.Load() }

// UndoDevice undoes what was changed for a TAP device that was named at the start, and which is closed. It is not asked for again.
func (c *Client) UndoDevice(device string) error {
	_, err := c.ask(request{Verb: verbUndo, Device: device})
	return err
}

// Dials reports whether the broker connects to a socket.
func (c *Client) Dials(path string) bool { return slices.Contains(c.duties.Dial, path) }

// Dial connects to a socket that the broker connects to.
func (c *Client) Dial(path string) (*net.UnixConn, error) {
	a, err := c.ask(request{Verb: verbDial, Socket: slices.Index(c.duties.Dial, path)})
	if err != nil {
		return nil, err
	}
	if a.conn < 0 {
		return nil, errors.New("the process that dials has sent no connection")
	}
	return SocketOf(os.NewFile(uintptr(a.conn), "front end"))
}

// Binds reports whether the broker opens sockets of forwards.
func (c *Client) Binds() bool { return c.duties.Bind != nil }

// Bind opens the socket of a forward of one port. It is the caller's. The file of a unix socket stays the broker's, see Unbind.
func (c *Client) Bind(f *spec.Forward) (forward.Socket, error) {
	at := placeOf(f)
	a, err := c.ask(request{Verb: verbBind, Place: &at})
	if err != nil {
		return forward.Socket{}, fmt.Errorf("forward %s: %w", f, err)
	}
	if a.conn < 0 {
		return forward.Socket{}, fmt.Errorf("forward %s: the process that opens sockets has sent none", f)
	}
	return forward.Opened(a.conn), nil
}

// Unbind removes the file of a forward's unix socket, which is closed, unless another one has taken its place.
func (c *Client) Unbind(path string) error {
	_, err := c.ask(request{Verb: verbUnbind, Place: &place{Path: path}})
	return err
}

// ReadFile reads resolv.conf, as dns.Config.Read does, and tells once why it could not. A file that cannot be read is an empty
// one; an error is that nobody has looked.
func (c *Client) ReadFile(path string) ([]byte, error) {
	if path != c.duties.Read {
		text, err := dns.ReadFile(path)
		c.tellUnread(err)
		return text, nil
	}
	a, err := c.askHurried(request{Verb: verbRead})
	trouble := new(answerError)
	if err != nil && !errors.As(err, &trouble) {
		return nil, err
	}
	c.tellUnread(err)
	return a.Text, nil
}

// Reads reports whether the broker reads resolv.conf.
func (c *Client) Reads() bool { return c.duties.Read != "" }

// ReadConfig reads the file of the configuration, MaxConfig bytes of it at most.
func (c *Client) ReadConfig(path string) ([]byte, error) {
	if path != c.duties.Config {
		return regularfile.Read(path, MaxConfig)
	}
	a, err := c.ask(request{Verb: verbConfig})
	return a.Text, err
}

// tellUnread tells why resolv.conf could not be read, once for each reason; nil is that it could.
func (c *Client) tellUnread(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if c.trouble != reason && reason != "" {
		c.observer.Unread(reason)
	}
	c.trouble = reason
}

// answerError is what the broker answers if it could not do something.
type answerError struct{ text string }

func (e *answerError) Error() string { return e.text }

// ask asks for one thing and waits for the answer, if need be for long.
func (c *Client) ask(r request) (answer, error) { return c.askFor(r, c.patient) }

// askHurried is ask for a worker's thread. As long as an answer is late it does not ask: the next one would be late, too.
func (c *Client) askHurried(r request) (answer, error) {
	c.mu.Lock()
	late := c.late > 0
	c.mu.Unlock()
	if late {
		return answer{}, unanswered(os.ErrDeadlineExceeded)
	}
	return c.askFor(r, c.hurried)
}

func (c *Client) askFor(r request, patience time.Duration) (answer, error) {
	w, err := c.request(r)
	if err != nil {
		return answer{}, err
	}
	return c.hear(w, patience)
}

// request sends a request, and returns who waits for the answer.
func (c *Client) request(r request) (*waiter, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return nil, c.broken
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.hurried)) // a socket that takes no deadline blocks
	if _, err := c.conn.Write(text); err != nil {
		return nil, unanswered(err) // requests are sent whole or not at all
	}
	w := newWaiter()
	c.waiting = append(c.waiting, w)
	return w, nil
}

// hear waits for an answer. If it does not come in time, it is dropped when it comes.
func (c *Client) hear(w *waiter, patience time.Duration) (answer, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a, ok := <-w.answers:
		return c.heard(a, ok)
	case <-timer.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case a, ok := <-w.answers: // meanwhile
		return c.heard(a, ok)
	default:
	}
	w.gone = true
	c.late++
	return answer{}, unanswered(os.ErrDeadlineExceeded)
}

// heard returns an answer; ok is that there is one.
func (c *Client) heard(a answer, ok bool) (answer, error) {
	switch {
	case !ok:
		return answer{}, unanswered(errEnded)
	case a.Error != "":
		a.drop()
		return a, &answerError{a.Error}
	}
	return a, nil
}

// errEnded is why a broker does not answer that has ended.
var errEnded = errors.New("it has ended")

// unanswered is that the broker does not answer.
func unanswered(reason error) error {
	return fmt.Errorf("the process that does what is not possible in the sandbox does not answer: %w", reason)
}

// Undo has the broker undo what was changed and remove what was made, and waits for it.
func (c *Client) Undo() error {
	closed := errors.Join(c.states.close(), c.learned.close(), c.audits.close())
	if !c.Started() {
		return closed
	}
	c.ending.Store(true)
	err := c.end()
	if trouble := new(answerError); err == nil || errors.As(err, &trouble) {
		return errors.Join(err, closed)
	}
	return fmt.Errorf("what was changed on the host is not undone: %w", err)
}

// end tells the broker that there are no more requests, and waits for its last answer.
func (c *Client) end() error {
	const patience = 10 * time.Second
	w, err := c.closeRequests()
	if err != nil {
		return err
	}
	_, err = c.hear(w, patience)
	return err
}

// closeRequests tells the broker that there are no more requests, and returns who waits for its last answer.
func (c *Client) closeRequests() (*waiter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return nil, c.broken
	}
	if err := c.conn.CloseWrite(); err != nil {
		return nil, err
	}
	w := newWaiter()
	c.waiting = append(c.waiting, w)
	return w, nil
}
