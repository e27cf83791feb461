package api

// Event is something that has happened. GET /v1/events sends each as it happens, by server-sent events: its data is this object, its id
// is ID and its event is Kind.
type Event struct {
	ID    uint64 `json:"id"`              // one more than that of the event before; where IDs are missing, the client has chosen a guest
	Time  string `json:"time"`            // RFC 3339, with milliseconds
	Kind  string `json:"kind"`            // one of EventKinds
	Guest string `json:"guest,omitempty"` // its name; "" for an event of the whole process
	// FrontEnd is how far the front end has come (EventFrontEnd), as in Guest.
	FrontEnd string `json:"frontend,omitempty"`
	Link     string `json:"link,omitempty"`  // LinkUp or LinkDown (EventLink)
	Level    string `json:"level,omitempty"` // of a notice: debug, info, warn or error
	Text     string `json:"text,omitempty"`  // what a notice says, or the reason of another event
	Key      string `json:"key,omitempty"`   // what Value of a notice is
	Value    string `json:"value,omitempty"`
	Until    string `json:"until,omitempty"` // when a process that drains ends all the same
	// More are events like this one that were left out before it, as too many came.
	More uint64 `json:"more,omitempty"`
	// Lost are events that this client has not read in time (EventLost). The next event that there is has the ID that follows this one's.
	Lost    uint64       `json:"lost,omitempty"`
	Changed []Difference `json:"changed,omitempty"` // of the configuration
	Undone  []Difference `json:"undone,omitempty"`  // that a reload has undone
	// ValuesLeftOut are values of Changed and Undone that are not told, as there are many.
	ValuesLeftOut int `json:"values_left_out,omitempty"`
	// Gaps are forwards that were closed for a moment, and LostForwards those that could not be opened again.
	Gaps         []Gap    `json:"gaps,omitempty"`
	LostForwards []string `json:"lost_forwards,omitempty"`
}

// Kinds of events.
const (
	EventFrontEnd       = "frontend"             // a front end has come or gone, or its guest's driver
	EventNotice         = "notice"               // a guest's network tells something, such as what was denied
	EventChanged        = "changed"              // the configuration was changed at the control socket
	EventReloaded       = "reloaded"             // the configuration file was read again
	EventNotReloaded    = "not-reloaded"         // the configuration file was read again, and is wrong
	EventGuestAdded     = "guest-added"          // a guest was added while others were served
	EventGuestRemoved   = "guest-removed"        // a guest was removed while others were served
	EventGuestStopped   = "guest-stopped"        // a guest is not served any more
	EventBrokerEnded    = "broker-ended"         // what the broker does is not done any more
	EventResolversGone  = "resolvers-unreadable" // the host's resolvers are not known
	EventAuditFailed    = "audit-failed"         // the audit log cannot be written, and lines are lost
	EventAuditGoesOn    = "audit-goes-on"        // it can be again
	EventDraining       = "draining"             // nothing new may begin
	EventDrainCancelled = "drain-cancelled"      // it may again
	EventLink           = "link"                 // the link of a guest was taken up or down
	EventStopping       = "stopping"             // the process ends
	EventLost           = "lost"                 // the client has lost events
	MaxEventValues      = 20                     // of Changed and Undone together, of Gaps, and of LostForwards
)

// EventKinds are all kinds of events.
func EventKinds() []string {
	return []string{
		EventFrontEnd, EventNotice, EventChanged, EventReloaded, EventNotReloaded, EventGuestAdded, EventGuestRemoved, EventGuestStopped, EventBrokerEnded, EventResolversGone, EventAuditFailed, EventAuditGoesOn, EventDraining, EventDrainCancelled,
		EventLink, EventStopping, EventLost,
	}
}
