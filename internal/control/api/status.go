package api

// Status is the answer of GET /v1/status.
type Status struct {
	Version       string  `json:"version"` // of vring
	UptimeSeconds int64   `json:"uptime_seconds"`
	Process       Process `json:"process"`
	Sandbox       []Wall  `json:"sandbox"` // none if there is no sandbox
	Control       Control `json:"control"`
	Drain         *Drain  `json:"drain,omitempty"` // missing if it does not drain
	State         *State  `json:"state,omitempty"` // missing if nothing is kept
	Guests        []Guest `json:"guests"`
}

// State is the file in which what is changed is kept, and with which the next start begins.
type State struct {
	Path  string `json:"path"`
	Error string `json:"error,omitempty"` // why it cannot be written at present; it is tried again
}

// Process is the process that serves guests.
type Process struct {
	HeapBytes  uint64 `json:"heap_bytes"`
	Goroutines uint64 `json:"goroutines"`
}

// Wall is a part of the sandbox.
type Wall struct {
	Name  string `json:"name"`
	Keeps string `json:"keeps"`           // what it keeps from the process, "" if it does not stand
	Lacks string `json:"lacks,omitempty"` // what it does not keep, and why
	Weak  bool   `json:"weak"`            // the sandbox is less than what is promised
}

// Control is how much the control socket is used.
type Control struct {
	Connections int `json:"connections"`
}

// Guest is a guest. GET /v1/guests answers with all of them, and GET /v1/guests/{name} with one.
type Guest struct {
	Name     string `json:"name"`     // its address, its TAP device, or its socket
	Socket   string `json:"socket"`   // at which its front end is met; "" for one that was inherited
	FrontEnd string `json:"frontend"` // waiting (for one), connected, or up: its guest's driver is
	// FrontEndKind is how the front end passes frames: FrontEndVhostUser, or what --front-end has chosen.
	FrontEndKind string `json:"frontend_kind"`
	Link         string `json:"link"`  // up, or down if it was taken down by PUT /v1/guests/{name}/link
	Pairs        []Pair `json:"pairs"` // its queue pairs
	Disabled     uint64 `json:"frames_on_disabled_rings"`
	LogLines     uint64 `json:"log_lines_left_out"`
	Error        string `json:"error,omitempty"` // why counters of some are not known
}

// FrontEndVhostUser is the kind of front ends that share the guest's memory.
const FrontEndVhostUser = "vhost-user"

// FrontEndState is how far the front end has come, for people: with its kind, if that is not the usual one.
func (g *Guest) FrontEndState() string {
	if g.FrontEndKind == FrontEndVhostUser || g.FrontEndKind == "" { // an older vring has no other
		return g.FrontEnd
	}
	return g.FrontEnd + " (" + g.FrontEndKind + ")"
}

// Pair is a queue pair, and its thread.
type Pair struct {
	CPU    *int   `json:"cpu"` // that the thread is pinned to; null for any
	Turns  uint64 `json:"turns"`
	Polled uint64 `json:"polled"`
	Sleeps uint64 `json:"sleeps"`
	PollUS uint64 `json:"poll_us"`

	FromGuestFrames uint64 `json:"from_guest_frames"`
	FromGuestBytes  uint64 `json:"from_guest_bytes"` // without virtio-net headers, as to the guest
	ToGuestFrames   uint64 `json:"to_guest_frames"`
	ToGuestBytes    uint64 `json:"to_guest_bytes"`
}

// Counters are those of a guest's queue pair. GET /v1/counters answers with those of all.
type Counters struct {
	Guest     string            `json:"guest"` // its name
	Pair      int               `json:"pair"`
	AgeMillis int64             `json:"age_ms"` // how long ago they were published; 0 if nothing can have been counted since
	Counters  map[string]uint64 `json:"counters"`
}

// Error is the answer to a request that was not carried out.
type Error struct {
	Text   string  `json:"error"`            // what was wrong, and what to do
	Faults []Fault `json:"faults,omitempty"` // each by itself, if they are about the configuration
	// Gaps are forwards that were closed for a moment in vain, and Lost those that could not be opened again.
	Gaps []Gap    `json:"gaps,omitempty"`
	Lost []string `json:"lost,omitempty"`
}
