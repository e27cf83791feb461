package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmpWait bounds the wait for an answer to a command, and for the monitor to come up.
const qmpWait = 30 * time.Second

// QMP is a connection to QEMU's machine monitor.
type QMP struct {
	mu   sync.Mutex // one command at a time
	conn net.Conn
	in   *bufio.Reader

	devices int // that PlugMemory has named
}

// qmpMessage is any message from QEMU. Exactly one field is set, save that an event has more of no interest here.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Event    string          `json:"event"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// DialQMP connects to a monitor socket, waiting for QEMU to make it, and ends the negotiation mode.
func DialQMP(ctx context.Context, path string) (*QMP, error) {
	ctx, cancel := context.WithTimeout(ctx, qmpWait)
	defer cancel()
	conn, err := dialWhenThere(ctx, path)
	if err != nil {
		return nil, err
	}
	q := &QMP{conn: conn, in: bufio.NewReader(conn)}
	if err := q.Execute("qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return q, nil
}

func dialWhenThere(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Close closes the connection; QEMU goes on.
func (q *QMP) Close() error { return q.conn.Close() }

// Execute runs a command. arguments is anything that JSON makes an object of, or nil. The answer is stored in the value
// that result points to, if not nil.
func (q *QMP) Execute(command string, arguments, result any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.conn.SetDeadline(time.Now().Add(qmpWait)); err != nil {
		return err
	}
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	answer, err := q.readAnswer()
	if err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer, result)
}

// readAnswer returns the next message that is an answer; the greeting and events come in between.
func (q *QMP) readAnswer() (json.RawMessage, error) {
	for {
		line, err := q.in.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		var m qmpMessage
		if err := json.Unmarshal(line, &m); err != nil {
			return nil, err
		}
		if m.Error != nil {
			return nil, fmt.Errorf("%s: %s", m.Error.Class, m.Error.Desc)
		}
		if m.Return != nil {
			return m.Return, nil
		}
	}
}

// Reset presses the reset button.
func (q *QMP) Reset() error { return q.Execute("system_reset", nil, nil) }

// Stop pauses the guest's processors. QEMU also takes the rings back from the back end.
func (q *QMP) Stop() error { return q.Execute("stop", nil, nil) }

// Continue ends Stop.
func (q *QMP) Continue() error { return q.Execute("cont", nil, nil) }

// SetLink plugs or unplugs the network cable.
func (q *QMP) SetLink(up bool) error {
	return q.Execute("set_link", map[string]any{"name": netdevID, "up": up}, nil)
}

// ProcessorThreads returns the identifiers of the threads that are the guest's processors.
func (q *QMP) ProcessorThreads() ([]int, error) {
	var processors []struct {
		Thread int `json:"thread-id"`
	}
	if err := q.Execute("query-cpus-fast", nil, &processors); err != nil {
		return nil, err
	}
	var threads []int
	for _, p := range processors {
		threads = append(threads, p.Thread)
	}
	return threads, nil
}

// Quit ends QEMU.
func (q *QMP) Quit() error { return q.Execute("quit", nil, nil) }
