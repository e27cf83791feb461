package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

const (
	// maxKept and maxKeptBytes bound the events that are kept for clients that have not read them yet.
	maxKept, maxKeptBytes = 1024, 256 << 10
	// maxEventText bounds each text of an event, in bytes: some are a guest's.
	maxEventText = 1024
	// stageRate is how many changes of a guest's stage are told in a second, after stageBurst at once. The last one is always told.
	stageRate, stageBurst = 5, 50
)

// eventTime is RFC 3339 with milliseconds.
const eventTime = "2006-01-02T15:04:05.000Z07:00"

// Events are what has happened to a daemon lately, for clients of its control socket. The last ones are kept once for all clients, each
// of which knows how far it has read: one that does not read holds up nobody, and what it has not read in time is lost to it. The zero
// value is not usable. Any goroutine may call its methods.
type Events struct {
	mu     sync.Mutex
	only   string // name of the guest that daemon.Event calls ""
	kept   []keptEvent
	bytes  int                // of kept
	last   uint64             // ID of the last event
	more   chan struct{}      // is closed when there is another event, or there will be none
	closed bool               // there will be none
	stages map[string]*staged // by guest
}

// keptEvent is an event as it is sent.
type keptEvent struct {
	id    uint64
	guest string // "" for an event of the whole process
	text  []byte
}

// staged bounds how often a guest's stage is told.
type staged struct {
	pace    *rate.Limiter
	last    string
	leftOut uint64      // that were not told
	later   *time.Timer // tells the last one; nil if all were told
}

// NewEvents returns events, of which there are none.
func NewEvents() *Events { return &Events{more: make(chan struct{}), stages: map[string]*staged{}} }

// Tell adds an event of the daemon, if clients are told of such.
func (e *Events) Tell(happened daemon.Event) {
	switch now := happened.(type) {
	case daemon.StageChanged:
		e.stage(now.Guest, now.Stage.String())
	case daemon.Notice:
		e.add(api.Event{
			Kind: api.EventNotice, Level: strings.ToLower(slog.Level(now.Level).String()), Text: now.Message, Key: now.Key, Value: now.Value, More: now.More,
		}, &now.Guest)
	case daemon.GuestAdded:
		e.add(api.Event{Kind: api.EventGuestAdded}, &now.Guest)
	case daemon.GuestRemoved:
		e.add(api.Event{Kind: api.EventGuestRemoved}, &now.Guest)
		e.forget(now.Guest)
	case daemon.GuestStopped:
		e.add(api.Event{Kind: api.EventGuestStopped, Text: now.Err.Error()}, &now.Guest)
	case daemon.BrokerEnded:
		e.add(api.Event{Kind: api.EventBrokerEnded}, nil)
	case daemon.ResolversUnreadable:
		e.add(api.Event{Kind: api.EventResolversGone, Text: now.Reason}, nil)
	case daemon.AuditTrouble:
		e.audit(now)
	case daemon.DrainChanged:
		e.drain(now)
	case daemon.Stopping:
		e.add(api.Event{Kind: api.EventStopping}, nil)
	}
}

// audit adds that the audit log cannot be written, or that it can be again.
func (e *Events) audit(now daemon.AuditTrouble) {
	event := api.Event{Kind: api.EventAuditGoesOn}
	if now.Err != nil {
		event = api.Event{Kind: api.EventAuditFailed, Text: now.Err.Error()}
	}
	e.add(event, nil)
}

// drain adds that nothing new may begin, or that it may again.
func (e *Events) drain(now daemon.DrainChanged) {
	event := api.Event{Kind: api.EventDrainCancelled}
	if now.Draining {
		event.Kind = api.EventDraining
	}
	if !now.Until.IsZero() {
		event.Until = now.Until.UTC().Format(eventTime)
	}
	e.add(event, nil)
}

// Reloaded adds that the configuration file was read again, with what became of that.
func (e *Events) Reloaded(done *Reloaded, err error) {
	if err != nil {
		event := api.Event{Kind: api.EventNotReloaded, Text: err.Error()}
		tellForwards(&event, &done.Applied)
		e.add(event, nil)
		return
	}
	e.add(changedEvent(api.EventReloaded, &done.Applied, done.Changed, done.Undone), nil)
}

// changed adds a change of the configuration.
func (e *Events) changed(done *daemon.Applied, made []configfile.Difference) {
	e.add(changedEvent(api.EventChanged, done, made, nil), nil)
}

func changedEvent(kind string, done *daemon.Applied, made, undone []configfile.Difference) api.Event {
	event := api.Event{Kind: kind}
	event.Changed, event.ValuesLeftOut = someDifferences(made, api.MaxEventValues)
	var leftOut int
	event.Undone, leftOut = someDifferences(undone, api.MaxEventValues-valuesOf(event.Changed))
	event.ValuesLeftOut += leftOut
	tellForwards(&event, done)
	return event
}

// tellForwards puts into an event what has become of forwards that made room.
func tellForwards(event *api.Event, done *daemon.Applied) {
	event.Gaps = gapsOf(done.Gaps[:min(len(done.Gaps), api.MaxEventValues)])
	for i := range done.Lost[:min(len(done.Lost), api.MaxEventValues)] {
		event.LostForwards = append(event.LostForwards, done.Lost[i].String())
	}
}

// someDifferences are differences with so many values at most, and how many were left out.
func someDifferences(all []configfile.Difference, most int) (some []api.Difference, leftOut int) {
	some = differencesOf(all)
	for i := range some {
		for _, values := range []*[]string{&some[i].Removed, &some[i].Added} {
			n := min(len(*values), most)
			leftOut += len(*values) - n
			*values, most = (*values)[:n], most-n
		}
	}
	return some, leftOut
}

// valuesOf counts the values of differences.
func valuesOf(all []api.Difference) (n int) {
	for i := range all {
		n += len(all[i].Removed) + len(all[i].Added)
	}
	return n
}

// stage adds a new stage of a guest. Of many in a short time the last one is told, and how many were left out.
func (e *Events) stage(guest, now string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stages[guest]
	if s == nil {
		s = &staged{pace: rate.NewLimiter(stageRate, stageBurst)}
		e.stages[guest] = s
	}
	s.last = now
	switch {
	case s.later != nil:
		s.leftOut++
	case s.pace.Allow():
		e.tellStage(guest, s)
	default:
		s.later = time.AfterFunc(time.Second/stageRate, func() { e.stageLater(guest, s) })
	}
}

// forget gives up what is known of a guest that is gone.
func (e *Events) forget(guest string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range []string{guest, ""} {
		s := e.stages[name]
		if s == nil || name == "" && guest != e.only {
			continue
		}
		if s.later != nil {
			s.later.Stop()
		}
		delete(e.stages, name)
	}
}

// stageLater tells a stage that too many others have gone before.
func (e *Events) stageLater(guest string, s *staged) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.later = nil
	e.tellStage(guest, s)
}

func (e *Events) tellStage(guest string, s *staged) {
	e.append(api.Event{Kind: api.EventFrontEnd, FrontEnd: s.last, More: s.leftOut}, &guest)
	s.leftOut = 0
}

// add adds an event of a guest, nil for the whole process.
func (e *Events) add(event api.Event, guest *string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.append(event, guest)
}

// append is add. It requires mu.
func (e *Events) append(event api.Event, guest *string) {
	if e.closed {
		return
	}
	if guest != nil {
		event.Guest = *guest
		if event.Guest == "" {
			event.Guest = e.only
		}
	}
	e.last++
	event.ID, event.Time = e.last, time.Now().UTC().Format(eventTime)
	event.Text, event.Value = cutAt(event.Text, maxEventText), cutAt(event.Value, maxEventText)
	kept := keptEvent{event.ID, event.Guest, eventText(&event, true)}
	e.kept, e.bytes = append(e.kept, kept), e.bytes+len(kept.text)
	for len(e.kept) > maxKept || e.bytes > maxKeptBytes {
		e.bytes -= len(e.kept[0].text)
		e.kept[0].text = nil
		e.kept = e.kept[1:]
	}
	close(e.more)
	e.more = make(chan struct{})
}

// eventText is an event as server-sent events have it. One without an ID leaves the client's as it is.
func eventText(event *api.Event, withID bool) []byte {
	var text bytes.Buffer
	if withID {
		fmt.Fprintf(&text, "id: %d\n", event.ID)
	}
	fmt.Fprintf(&text, "event: %s\ndata: ", event.Kind)
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(event); err != nil { // one line
		panic(err) // types of package api can be written
	}
	text.WriteByte('\n')
	return text.Bytes()
}

// begin names the only guest, whose events are named "" by the daemon.
func (e *Events) begin(guests []daemon.GuestStatus) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(guests) == 1 {
		e.only = guests[0].Name
	}
}

// close lets those who read what is left know that there will be no other events.
func (e *Events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	for _, s := range e.stages {
		if s.later != nil {
			s.later.Stop()
		}
	}
	close(e.more)
}

// end is the ID of the last event.
func (e *Events) end() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// next returns the events behind that with an ID: those of one guest and of the whole process, or all for "". They are as they are sent, and
// no more than most bytes but for one event. behind is the ID of the last one that was looked at. If there are none, more is closed when there
// are others, and over is that there will be none.
func (e *Events) next(after uint64, guest string, most int) (text []byte, behind uint64, more <-chan struct{}, over bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if after > e.last { // of a process before this one
		after = 0
	}
	oldest := e.last - uint64(len(e.kept)) + 1
	if after+1 < oldest {
		lost := api.Event{ID: oldest - 1, Time: time.Now().UTC().Format(eventTime), Kind: api.EventLost, Lost: oldest - 1 - after}
		text, after = eventText(&lost, false), oldest-1
	}
	for _, kept := range e.kept[after+1-oldest:] {
		if len(text) > 0 && len(text)+len(kept.text) > most {
			break
		}
		after = kept.id
		if guest == "" || kept.guest == "" || kept.guest == guest {
			text = append(text, kept.text...)
		}
	}
	return text, after, e.more, e.closed && after == e.last
}
