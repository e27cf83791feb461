package dns

import "time"

// Transport is how a resolver is asked. Where a Server is asked by TLS only, the others stand for that.
type Transport uint8

// The transports. A resolver may be good by one and not by the other.
const (
	UDP Transport = iota
	TCP
	TLS // of a Server with TLS, and of no other
	transports
)

const (
	// setAside is how long a resolver that failed is the last choice. Each time that it fails again this is doubled.
	setAside     = int64(10 * time.Second)
	mostSetAside = int64(5 * time.Minute)
)

// resolver is one name server and its recent past.
type resolver struct {
	addr   Server
	heard  int64 // when it last answered by any transport
	spoke  bool  // whether it ever did
	health [transports]health
}

// health is whether a resolver works by one transport. The zero value is one that does.
type health struct {
	aside  bool  // it failed, and has not answered since
	failed int64 // when it last did
	until  int64 // when it is tried again
	wait   int64 // how long it is set aside next
}

// fail notes a failure, and reports whether it is the first.
func (h *health) fail(now int64) (first bool) {
	first = !h.aside
	h.failed = now
	if first || now >= h.until {
		h.putOff(now)
	}
	h.aside = true
	return first
}

// putOff sets the time of the next try.
func (h *health) putOff(now int64) {
	h.wait = min(max(2*h.wait, setAside), mostSetAside)
	h.until = now + h.wait
}

// recover notes an answer, and reports whether there was a failure before.
func (h *health) recover() (was bool) {
	was = h.aside
	*h = health{}
	return was
}

// last reports whether v is to be asked after others. By UDP it is until it has answered a probe. By TCP and TLS there are none: it is so
// for its time, or, of TCP, while it does not answer by UDP, for then its machine may be off.
func (v *resolver) last(now int64, by Transport) bool {
	if v.health[UDP].aside {
		return true
	}
	by = v.addr.by(by)
	return by != UDP && v.health[by].aside && now < v.health[by].until
}

// before reports whether v is to be asked before w, which stands earlier in the list.
func (v *resolver) before(w *resolver, now int64, by Transport) bool {
	if late := v.last(now, by); late != w.last(now, by) {
		return !late
	} else if !late {
		return false
	}
	return v.failed() < w.failed()
}

// failed is when v last failed.
func (v *resolver) failed() int64 {
	return max(v.health[UDP].failed, v.health[TCP].failed, v.health[TLS].failed)
}
