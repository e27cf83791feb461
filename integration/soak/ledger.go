package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/vringnet/vring/integration/lab/talk"
)

// ledger has the books on all conversations. It may be used by several goroutines.
type ledger struct {
	mu    sync.Mutex
	next  uint64
	open  map[uint64]*entry
	tally tally
}

// tally counts conversations that are over.
type tally struct {
	Complete  int   // all came at both ends, and had the right sum
	Bytes     int64 // in them, both directions
	Resets    int   // one end reset it, and the other one was told
	Disturbed int   // something was done to the guest meanwhile; neither end was deceived
	Failed    int   // anything else
}

// entry is one conversation that is under way, or was a moment ago.
type entry struct {
	talk.Script
	guest    *vm
	began    uint64 // the guest's generation then
	caller   *talk.Result
	answerer *talk.Result
	noted    time.Time
}

func newLedger() *ledger { return &ledger{open: map[uint64]*entry{}} }

// begin opens an entry for a conversation with a guest.
func (l *ledger) begin(g *vm, s talk.Script) talk.Script {
	generation := g.generation.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	s.ID = l.next
	l.open[s.ID] = &entry{Script: s, guest: g, began: generation}
	return s
}

// called notes the caller's result.
func (l *ledger) called(id uint64, r talk.Result) {
	l.note(id, func(e *entry) { e.caller = &r })
}

// answered notes the answerer's.
func (l *ledger) answered(r talk.Result) {
	l.note(r.ID, func(e *entry) { e.answerer = &r })
}

func (l *ledger) note(id uint64, set func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.open[id]; e != nil {
		set(e)
		e.noted = time.Now()
	}
}

// How long after the caller's end the answerer's may come to be known: its result takes a way of its own, and one that
// hangs tells so in the end. After what was done to a guest it is as likely lost.
const (
	grace          = talkLimit + 15*time.Second
	disturbedGrace = time.Second
)

// settle closes the entries about which all is known that will be, and returns what was wrong with them.
func (l *ledger) settle(now time.Time) (faults []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, e := range l.open {
		if !e.over(now) {
			continue
		}
		delete(l.open, id)
		if fault := e.judge(&l.tally); fault != "" {
			l.tally.Failed++
			faults = append(faults, fmt.Sprintf("conversation %d (kind %d, %d up, %d down) with guest %s: %s; caller %s, answerer %s",
				e.ID, e.Kind, e.Up, e.Down, e.guest.address, fault, show(e.caller), show(e.answerer)))
		}
	}
	return faults
}

// over tells whether all is known that will be.
func (e *entry) over(now time.Time) bool {
	switch {
	case e.caller == nil:
		return false
	case e.answerer != nil:
		return true
	case e.disturbed():
		return now.Sub(e.noted) > disturbedGrace
	}
	return now.Sub(e.noted) > grace
}

// disturbed tells whether something was done to the guest since the conversation began.
func (e *entry) disturbed() bool { return e.guest.generation.Load() != e.began || e.began%2 == 1 }

// judge counts a conversation, or tells what was wrong with it.
func (e *entry) judge(t *tally) (fault string) {
	for _, r := range []*talk.Result{e.caller, e.answerer} {
		if r != nil && r.Outcome == talk.Wrong {
			return "wrong data"
		}
	}
	if e.disturbed() {
		t.Disturbed++
		return ""
	}
	if e.Kind.Resets() {
		return e.judgeReset(t)
	}
	if e.answerer == nil || e.caller.Outcome != talk.Complete || e.answerer.Outcome != talk.Complete {
		return "not complete though nothing was done to the guest"
	}
	t.Complete++
	t.Bytes += e.Up + e.Down
	return ""
}

// judgeReset looks at the end that did not reset. An answerer that never saw the script has nothing to tell.
func (e *entry) judgeReset(t *tally) (fault string) {
	victim := e.answerer
	if e.Kind == talk.AnswererResets {
		victim = e.caller
	}
	if victim != nil && victim.Outcome != talk.Broken {
		return "a reset was not told"
	}
	t.Resets++
	return ""
}

// counts returns what is over, and how many are not.
func (l *ledger) counts() (tally, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally, len(l.open)
}

func show(r *talk.Result) string {
	if r == nil {
		return "unknown"
	}
	return fmt.Sprintf("%s (%d bytes, %s)", r.Outcome, r.Bytes, r.Error)
}
