package api

// Flow is a TCP connection, a UDP association, or a series of echo requests.
type Flow struct {
	Proto     string `json:"proto"`            // tcp, udp or icmp
	Inbound   bool   `json:"inbound"`          // the host began it
	By        string `json:"by"`               // how the host began it: forward, connect or socks; "" if it did not
	Guest     string `json:"guest"`            // the guest's end, with its port
	Remote    string `json:"remote"`           // the other end as the guest sees it
	Host      string `json:"host"`             // the host's socket: its address, or the path of a unix one; "" if there is none any more
	Target    string `json:"target"`           // that socket's peer; "" if it has none
	State     string `json:"state"`            // behind it in parentheses, why connections stand still
	FromGuest uint64 `json:"from_guest_bytes"` // bytes of payload that the host's socket took
	ToGuest   uint64 `json:"to_guest_bytes"`   // bytes of payload that the guest acknowledged; with UDP, was sent
	AgeMillis int64  `json:"age_ms"`
}

// Flows is the answer of GET /v1/guests/{name}/flows.
type Flows struct {
	Flows []Flow `json:"flows"` // the oldest first
	More  bool   `json:"more"`  // there are others, which were left out
}

// Ended is the answer of DELETE /v1/guests/{name}/flows.
type Ended struct {
	Ended int `json:"ended"` // so many flows
}
