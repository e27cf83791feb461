package proof

import (
	"bytes"
	"errors"

	"github.com/vringnet/vring/netbackend/nat/internal/httphead"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/servername"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tlshello"
)

// plain returns how many bytes may pass that nobody needs to look at, if nothing is kept.
func (r *record) plain() uint64 {
	switch {
	case r.place != 0:
		return 0
	case r.stage == opaque:
		return 1 << 62
	case r.stage == inBody:
		return r.body.Plain()
	}
	return 0
}

// skip takes note that n of these bytes have passed.
func (r *record) skip(n int) {
	if r.stage == inBody {
		r.body.Skip(n)
		r.endBody()
	}
}

// endBody goes on to the next request if the body of one is over.
func (r *record) endBody() {
	if r.stage == inBody && r.body.IsOver() {
		r.stage = headDue
	}
}

// advance looks at what is kept and gives the host's socket what may go, until it has all of that. It returns false if the socket is full
// or dead, or if the connection is refused.
func (e *Inspector) advance(t *shard.Turn, f *shard.Flow, r *record) bool {
	for r.place != 0 {
		k := e.cfg.Guest.at(r.place)
		if k.decided > 0 {
			if !e.flush(t, f, r, k) {
				return false
			}
			continue
		}
		if k.looked == len(k.bytes) {
			return true
		}
		k.looked = len(k.bytes)
		if !e.look(t, f, r, k) {
			return false
		}
	}
	if r.stage == opaque {
		e.cfg.TCP.EndInspection(f)
	}
	return true
}

// flush gives the host's socket what may go.
func (e *Inspector) flush(t *shard.Turn, f *shard.Flow, r *record, k *kept) bool {
	n, ok := e.cfg.TCP.SendTaken(t, f, k.bytes[:k.decided])
	k.bytes = k.bytes[n:]
	k.decided -= n
	if !ok || k.decided > 0 {
		return false
	}
	if len(k.bytes) == 0 {
		e.forget(r)
		return true
	}
	k.looked = 0
	k.hello, k.head = tlshello.Reader{}, httphead.Scanner{}
	e.cfg.Guest.wait(r.place, t.Now)
	return true
}

// decide lets n bytes of what is kept go.
func (e *Inspector) decide(r *record, k *kept, n int) {
	k.decided = n
	if n > 0 {
		e.cfg.Guest.wait(r.place, 0)
	}
}

// look looks at what is kept, none of which is decided on. It returns false if the connection is refused.
func (e *Inspector) look(t *shard.Turn, f *shard.Flow, r *record, k *kept) bool {
	if r.stage == begins {
		r.stage = firstStage(r.ways, k.bytes[0])
	}
	switch r.stage {
	case helloDue, secondDue:
		return e.lookAtHello(t, f, r, k)
	case following:
		return e.follow(t, f, r, k)
	case headDue:
		return e.lookAtHead(t, f, r, k)
	case inBody:
		return e.lookAtBody(t, f, r, k)
	case upgrading:
		return !e.refuse(t, f, "", ErrEarly)
	}
	e.decide(r, k, len(k.bytes))
	return true
}

// firstStage returns what a connection is that begins with a byte.
func firstStage(w policy.Proof, b byte) stage {
	const handshake = 22 // no method of HTTP begins so
	if w&policy.ProofHTTP == 0 || w&policy.ProofTLS != 0 && b == handshake {
		return helloDue
	}
	return headDue
}

// lookAtHello looks for a ClientHello.
func (e *Inspector) lookAtHello(t *shard.Turn, f *shard.Flow, r *record, k *kept) bool {
	hello, n, err := k.hello.Read(k.bytes)
	switch {
	case isNameless(err) && r.stage == helloDue:
		if !e.judge(t, f, "", 0) {
			return false
		}
		r.stage = opaque
		e.decide(r, k, len(k.bytes))
		return true
	case err != nil:
		return !e.refuse(t, f, "", err)
	case n == 0:
		return true
	case !e.judge(t, f, hello.Name, policy.ProofTLS):
		return false
	}
	if r.stage == secondDue {
		r.stage = opaque // a server asks once (RFC 8446 section 4.1.4)
	} else {
		r.stage = following
		e.cfg.TCP.AwaitAnswer(f)
	}
	e.decide(r, k, n)
	return true
}

// isNameless reports whether an error tells that a connection has no server name, rather than one that cannot be relied on.
func isNameless(err error) bool {
	return errors.Is(err, tlshello.ErrNotTLS) || errors.Is(err, tlshello.ErrNoName) || errors.Is(err, servername.ErrAddress)
}

// follow looks for a second hello.
func (e *Inspector) follow(t *shard.Turn, f *shard.Flow, r *record, k *kept) bool {
	n, next := r.follower.Walk(k.bytes)
	switch next {
	case tlshello.Broken:
		return !e.refuse(t, f, "", ErrRecord)
	case tlshello.Other:
		r.stage = opaque
		n = len(k.bytes)
	case tlshello.Second:
		r.stage = secondDue
		k.looked = 0
	}
	e.decide(r, k, n)
	return true
}

// lookAtHead looks for the head of a request.
func (e *Inspector) lookAtHead(t *shard.Turn, f *shard.Flow, r *record, k *kept) bool {
	n, err := k.head.Find(k.bytes)
	if n == 0 && err == nil {
		return true
	}
	var head httphead.Head
	if err == nil {
		head, err = httphead.Parse(k.bytes[:n])
	}
	switch {
	case err != nil:
	case head.Port != 0 && head.Port != f.Key.RemotePort:
		err = ErrPort
	case head.Upgrade && r.requests > 0:
		err = ErrSecond
	}
	if err != nil {
		return !e.refuse(t, f, head.Host, err)
	}
	by := policy.ProofHTTP
	if head.Host == "" {
		by = 0
	}
	if !e.judge(t, f, head.Host, by) {
		return false
	}
	r.requests = min(r.requests+1, 2)
	r.stage, r.body = inBody, head.Body
	r.endBody()
	if head.Upgrade {
		r.stage = upgrading
		e.cfg.TCP.AwaitAnswer(f)
	}
	e.decide(r, k, n)
	return true
}

// lookAtBody lets the body of a request pass.
func (e *Inspector) lookAtBody(t *shard.Turn, f *shard.Flow, r *record, k *kept) bool {
	n, err := r.body.Walk(k.bytes)
	if err != nil {
		return !e.refuse(t, f, "", err)
	}
	r.endBody()
	e.decide(r, k, n)
	return true
}

// judge asks the policy, and resets a connection that it does not allow.
func (e *Inspector) judge(t *shard.Turn, f *shard.Flow, name string, by policy.Proof) bool {
	if e.cfg.Allow(t, f, name, by) {
		return true
	}
	e.end(t, f)
	return false
}

// OnAnswer implements tcp.InspectorHooks.
func (e *Inspector) OnAnswer(t *shard.Turn, f *shard.Flow, answer []byte) {
	e.serving = true
	defer func() { e.serving = false }()
	r := e.cfg.Guest.records.At(f.Index)
	switch r.stage {
	case following:
		if tlshello.ReadAnswer(answer) == tlshello.Final {
			e.open(t, f, r)
		}
	case upgrading:
		if bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
			e.open(t, f, r)
			return
		}
		r.stage = headDue
	}
}

// open looks at a connection no more.
func (e *Inspector) open(t *shard.Turn, f *shard.Flow, r *record) {
	e.letGo(r)
	e.resume(t, f)
}
