package control

import (
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// maxStreams is how many clients follow events at a time.
	maxStreams = 16
	// maxWrite is how many bytes of events are sent at once, if one event is not longer.
	maxWrite = 16 << 10
	// streamPause is how long events are gathered before they are sent, and keepAlive how long nothing is sent at most.
	streamPause, keepAlive = 20 * time.Millisecond, 15 * time.Second
	// farewell is how long the last events may take when the server closes.
	farewell = 500 * time.Millisecond
)

// streams are the clients that follow events.
type streams struct {
	stuck time.Duration // one that has not read for so long makes room for another one
	mu    sync.Mutex
	all   map[*stream]struct{}
}

// stream is an answer that goes on as long as its client wants: events as they happen.
type stream struct {
	server  *Server
	conn    net.Conn
	guest   string    // whose events are sent, "" for all
	after   uint64    // ID of the event that was sent last
	writing time.Time // since when the client is waited for, zero if it is not; guarded by streams.mu
}

func newStreams() *streams { return &streams{stuck: patience, all: map[*stream]struct{}{}} }

// enter reports whether there is room for a stream. It closes one whose client does not read to have some.
func (s *streams) enter(new *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxStreams && !s.closeStuck() {
		return false
	}
	s.all[new] = struct{}{}
	return true
}

// closeStuck closes the stream whose client has read nothing for longest, and reports whether there is one. It requires mu.
func (s *streams) closeStuck() bool {
	var last *stream
	for other := range s.all {
		if !other.writing.IsZero() && time.Since(other.writing) >= s.stuck && (last == nil || other.writing.Before(last.writing)) {
			last = other
		}
	}
	if last == nil {
		return false
	}
	_ = last.conn.Close()
	delete(s.all, last)
	return true
}

// leave ends a stream that has entered.
func (s *streams) leave(old *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, old)
}

// setWriting notes that the client of a stream is waited for, or not any more.
func (s *streams) setWriting(of *stream, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of.writing = since
}

// any reports whether there are streams.
func (s *streams) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) > 0
}

// events begins a stream. A client that comes back says which event it has read last.
func (s *Server) events(r *http.Request, _ []byte) (any, error) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	stream := &stream{server: s, conn: conn, guest: r.URL.Query().Get("guest"), after: s.Events.end()}
	for name, values := range r.URL.Query() {
		switch {
		case name != "guest" && name != "after":
			return nil, failed(http.StatusBadRequest, "there is no %q; there are guest and after", cut(name))
		case len(values) > 1:
			return nil, failed(http.StatusBadRequest, "%s is there %d times; write it once", name, len(values))
		}
	}
	if stream.guest != "" {
		if err := s.checkGuest(stream.guest); err != nil {
			return nil, err
		}
	}
	after := r.URL.Query().Get("after")
	if after == "" {
		after = r.Header.Get("Last-Event-ID") // which libraries for server-sent events send by themselves
	}
	if after != "" {
		var err error
		if stream.after, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, failed(http.StatusBadRequest, "after %q: want the ID of an event, or 0 for all that are kept", cut(after))
		}
	}
	if !s.streams.enter(stream) {
		return nil, failed(http.StatusServiceUnavailable, "%d clients follow events already; end one of them", maxStreams)
	}
	return stream, nil
}

// send sends events until the client goes or the server closes. Only between two writes the connection is held: a client that does not
// read has to make room for others.
func (s *stream) send(w http.ResponseWriter, r *http.Request) {
	streams := s.server.streams
	defer streams.leave(s)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // nothing else comes; its end is noticed
	_ = control.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	text := []byte(": events\n\n") // so that the client knows that it follows
	for {
		if !s.write(w, control, text) {
			return
		}
		var over bool
		if text, over = s.wait(r); over {
			return
		}
	}
}

// write reports whether a text was sent.
func (s *stream) write(w http.ResponseWriter, control *http.ResponseController, text []byte) bool {
	s.server.streams.setWriting(s, time.Now())
	defer s.server.streams.setWriting(s, time.Time{})
	if _, err := w.Write(text); err != nil {
		return false
	}
	return control.Flush() == nil
}

// wait waits for events, and returns them; or a comment, so that it is noticed if the client has gone. There will be none if over.
func (s *stream) wait(r *http.Request) (text []byte, over bool) {
	defer s.server.conns.hold(r.Context())()
	quiet := time.NewTimer(keepAlive)
	defer quiet.Stop()
	for {
		var more <-chan struct{}
		text, s.after, more, over = s.server.Events.next(s.after, s.guest, maxWrite)
		if len(text) > 0 {
			return text, false
		}
		if over {
			return nil, true
		}
		select {
		case <-more:
		case <-quiet.C:
			return []byte(": nothing has happened\n\n"), false
		case <-r.Context().Done():
			return nil, true
		}
		select { // what comes at once goes at once
		case <-time.After(streamPause):
		case <-r.Context().Done():
			return nil, true
		}
	}
}
