package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// ErrRestarted ends the calls that were under way when the guest booted again.
var ErrRestarted = errors.New("the guest has restarted")

// ErrGone ends the calls that were under way when the guest's console ended.
var ErrGone = errors.New("the guest is gone")

// eventBacklog is how many events of a call may wait. A test that asks for more reads them.
const eventBacklog = 64

// Console is the host's end of a guest's console.
type Console struct {
	in      io.Writer // guarded by mu
	out     *chain
	printed func() string
	hello   chan proto.Hello // one value a boot, the newest wins
	ended   chan struct{}    // closed when the guest's output has ended

	mu    sync.Mutex
	next  int
	calls map[int]*Call
	gone  bool
}

// Call is a command that the guest runs.
type Call struct {
	Command string
	events  chan json.RawMessage
	done    chan struct{}
	result  json.RawMessage // valid once done is closed
	err     error           // valid once done is closed
}

// NewConsole talks to a guest whose console output is read from out, until that ends, and whose input is written to in.
// printed returns what the guest, and the program that it runs in, have printed: it explains why a guest does not boot. It
// may be called at any time.
func NewConsole(out io.Reader, in io.Writer, printed func() string) *Console {
	c := &Console{
		in: in, out: &chain{now: out}, printed: printed, hello: make(chan proto.Hello, 1), ended: make(chan struct{}), next: 1, calls: make(map[int]*Call),
	}
	go c.read(c.out)
	return c
}

// Follow makes the console that of a guest which is migrated: when its output has ended where it ran, it goes on with out, and
// from now on its input is in. It is called before the first output ends, and while nothing is sent.
func (c *Console) Follow(out io.Reader, in io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = in
	c.out.append(out)
}

// chain reads from one reader after the other.
type chain struct {
	now  io.Reader
	mu   sync.Mutex
	next []io.Reader
}

func (c *chain) append(r io.Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = append(c.next, r)
}

// Read implements io.Reader.
func (c *chain) Read(b []byte) (int, error) {
	n, err := c.now.Read(b)
	if err == nil || n > 0 {
		return n, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.next) == 0 {
		return 0, err
	}
	c.now, c.next = c.next[0], c.next[1:]
	return 0, nil
}

// read hands out what comes from the guest.
func (c *Console) read(out io.Reader) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if answer, ok := proto.ParseAnswer(line); ok {
			c.deliver(answer)
		}
		if err != nil {
			c.endAll(ErrGone)
			close(c.ended)
			return
		}
	}
}

// deliver gives one answer to its call.
func (c *Console) deliver(a proto.Answer) {
	if a.ID == 0 {
		c.deliverHello(a)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[a.ID]
	if call == nil {
		return // of a boot before
	}
	switch a.Kind {
	case proto.Event:
		select {
		case call.events <- a.Payload:
		default: // nobody reads the events of this call
		}
	case proto.OK:
		c.end(a.ID, a.Payload, nil)
	default:
		c.end(a.ID, nil, fmt.Errorf("guest: %s: %s", call.Command, a.Payload))
	}
}

// deliverHello notes that the guest has booted.
func (c *Console) deliverHello(a proto.Answer) {
	var hello proto.Hello
	if a.Kind != proto.Event || json.Unmarshal(a.Payload, &hello) != nil {
		return
	}
	c.endAll(ErrRestarted)
	select {
	case <-c.hello: // nobody has waited for the boot before
	default:
	}
	c.hello <- hello
}

// end finishes a call. c.mu is held.
func (c *Console) end(id int, result json.RawMessage, err error) {
	call := c.calls[id]
	delete(c.calls, id)
	call.result, call.err = result, err
	close(call.done)
}

// endAll finishes all calls.
func (c *Console) endAll(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = errors.Is(err, ErrGone)
	for id := range c.calls {
		c.end(id, nil, err)
	}
}

// WaitBoot waits until the guest is ready for commands. Each boot can be waited for once. It returns ErrGone as soon as the
// guest's console has ended; errors have the end of what was printed.
func (c *Console) WaitBoot(ctx context.Context) (proto.Hello, error) {
	select {
	case hello := <-c.hello:
		return hello, nil
	case <-c.ended:
		return c.lastBoot()
	case <-ctx.Done():
		return proto.Hello{}, c.notBooted(ctx.Err())
	}
}

// lastBoot returns the boot that came just before the end of the console.
func (c *Console) lastBoot() (proto.Hello, error) {
	select {
	case hello := <-c.hello:
		return hello, nil
	default:
		return proto.Hello{}, c.notBooted(ErrGone)
	}
}

// printedAtMost is how much of what was printed an error has, in bytes.
const printedAtMost = 8 << 10

func (c *Console) notBooted(why error) error {
	text := c.printed()
	return fmt.Errorf("the guest has not booted: %w; it printed at last:\n%s", why, text[max(0, len(text)-printedAtMost):])
}

// Start sends a command to the guest. Arguments are formatted with fmt.Sprint and must not contain white space.
func (c *Console) Start(command string, args ...any) *Call {
	call := &Call{Command: command, events: make(chan json.RawMessage, eventBacklog), done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	request := proto.Request{ID: c.next, Command: command}
	for _, arg := range args {
		request.Args = append(request.Args, fmt.Sprint(arg))
	}
	c.calls[c.next] = call
	c.next++
	if c.gone {
		c.end(request.ID, nil, ErrGone)
		return call
	}
	if _, err := io.WriteString(c.in, request.String()+"\n"); err != nil {
		c.end(request.ID, nil, err)
	}
	return call
}

// Do runs a command in the guest and stores its result in the value that result points to; a nil result is dropped.
func (c *Console) Do(ctx context.Context, result any, command string, args ...any) error {
	return c.Start(command, args...).Wait(ctx, result)
}

// Done is closed when the command has ended.
func (call *Call) Done() <-chan struct{} { return call.done }

// Wait waits for the end of the command and stores its result in the value that result points to, if not nil.
func (call *Call) Wait(ctx context.Context, result any) error {
	select {
	case <-call.done:
	case <-ctx.Done():
		return fmt.Errorf("guest: %s: %w", call.Command, ctx.Err())
	}
	if call.err != nil || result == nil {
		return call.err
	}
	return json.Unmarshal(call.result, result)
}

// Event waits for the next event of the command and stores it in the value that event points to, if not nil.
func (call *Call) Event(ctx context.Context, event any) error {
	var payload json.RawMessage
	select {
	case payload = <-call.events:
	case <-call.done:
		select {
		case payload = <-call.events:
		default:
			return errors.Join(fmt.Errorf("guest: %s has ended", call.Command), call.err)
		}
	case <-ctx.Done():
		return fmt.Errorf("guest: event of %s: %w", call.Command, ctx.Err())
	}
	if event == nil {
		return nil
	}
	return json.Unmarshal(payload, event)
}
