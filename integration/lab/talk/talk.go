package talk

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// Conn is a TCP connection or a unix one.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Outcome is how a conversation was for one end.
type Outcome string

// The outcomes, from the best to the worst.
const (
	Complete  Outcome = "complete"  // all was sent, all came, and both directions ended in order
	Resetting Outcome = "resetting" // this end was the one to reset
	Broken    Outcome = "broken"    // the connection failed; what had come was right
	Truncated Outcome = "truncated" // the peer's stream ended in order, but too early
	Stuck     Outcome = "stuck"     // the time ran out
	Wrong     Outcome = "wrong"     // what came is not what was sent
)

// Result is what one end knows of a conversation.
type Result struct {
	ID      uint64  `json:"id"`
	Outcome Outcome `json:"outcome"`
	Bytes   int64   `json:"bytes"` // that came
	SHA256  string  `json:"sha256"`
	Error   string  `json:"error,omitempty"`
}

// Call begins a conversation, and has its part of it. It closes conn.
func Call(conn Conn, s Script, limit time.Duration) Result {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	e := end{conn: conn, id: s.ID, sends: part{s.upSeed(), s.Up}, gets: part{s.downSeed(), s.Down}}
	if _, err := conn.Write(s.encode()); err != nil {
		return e.result(nothing, err)
	}
	switch s.Kind {
	case CallerResets:
		return e.reset()
	case CallerFirst:
		return e.sendThenGet()
	case AnswererFirst:
		return e.getThenSend()
	}
	return e.both()
}

// Answer has the other part. It closes conn. The error tells that no conversation has begun.
func Answer(conn Conn, limit time.Duration) (Result, error) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	var b [scriptSize]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return Result{}, err
	}
	s, err := decode(b[:])
	if err != nil {
		return Result{}, err
	}
	e := end{conn: conn, id: s.ID, sends: part{s.downSeed(), s.Down}, gets: part{s.upSeed(), s.Up}}
	switch s.Kind {
	case AnswererResets:
		return e.reset(), nil
	case CallerFirst:
		return e.getThenSend(), nil
	case AnswererFirst:
		return e.sendThenGet(), nil
	}
	return e.both(), nil
}

// part is what one end sends.
type part struct {
	seed  uint64
	bytes int64
}

// end is one end of a conversation.
type end struct {
	conn        Conn
	id          uint64
	sends, gets part
}

// chunk is large: system calls are dear in User-mode Linux.
const chunk = 256 << 10

func (e *end) send(n int64) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{e.conn}, struct{ io.Reader }{proto.Pattern(e.sends.seed, n)}, make([]byte, chunk))
	return err
}

func (e *end) sendAll() error {
	if err := e.send(e.sends.bytes); err != nil {
		return err
	}
	return e.conn.CloseWrite()
}

// got is what came until the end of the stream.
type got struct {
	bytes int64
	sum   string
	err   error
}

var nothing = got{}

func (e *end) get() got {
	hash := sha256.New()
	n, err := io.CopyBuffer(hash, struct{ io.Reader }{e.conn}, make([]byte, chunk))
	return got{n, hex.EncodeToString(hash.Sum(nil)), err}
}

func (e *end) both() Result {
	sent := make(chan error, 1)
	go func() { sent <- e.sendAll() }()
	g := e.get()
	return e.result(g, <-sent)
}

func (e *end) sendThenGet() Result {
	if err := e.sendAll(); err != nil {
		return e.result(e.get(), err)
	}
	return e.result(e.get(), nil)
}

func (e *end) getThenSend() Result {
	g := e.get()
	if g.err != nil {
		return e.result(g, nil)
	}
	return e.result(g, e.sendAll())
}

// reset sends half and resets the connection.
func (e *end) reset() Result {
	err := e.send(e.sends.bytes / 2)
	if c, ok := e.conn.(*net.TCPConn); ok {
		err = errors.Join(err, c.SetLinger(0))
	}
	r := Result{ID: e.id, Outcome: Resetting}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// result judges what came, and how sending ended.
func (e *end) result(g got, sent error) Result {
	r := Result{ID: e.id, Bytes: g.bytes, SHA256: g.sum}
	err := errors.Join(g.err, sent)
	if err != nil {
		r.Error = err.Error()
	}
	switch {
	case g.bytes > e.gets.bytes, g.bytes > 0 && g.sum != proto.PatternSum(e.gets.seed, g.bytes):
		r.Outcome = Wrong
		r.Error = fmt.Sprintf("%d bytes of %d have the sum %s; %s", g.bytes, e.gets.bytes, g.sum, r.Error)
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.Outcome = Stuck
	case err != nil:
		r.Outcome = Broken
	case g.bytes < e.gets.bytes:
		r.Outcome = Truncated
	default:
		r.Outcome = Complete
	}
	return r
}
