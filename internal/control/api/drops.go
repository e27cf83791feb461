package api

// Drop is a frame that was dropped, or something like it, and why. GET /v1/guests/{name}/drops answers with those that are kept, the oldest first.
type Drop struct {
	Time    string `json:"time"`     // RFC 3339, with milliseconds
	Pair    int    `json:"pair"`     // the number of the queue pair, from 0
	Reason  string `json:"reason"`   // the name of the counter that has counted it
	Meaning string `json:"meaning"`  // what that counter counts
	Detail  string `json:"detail"`   // more of the reason, such as the option that opens what is closed; "" if there is no more
	ToGuest bool   `json:"to_guest"` // it was on its way to the guest
	Proto   string `json:"proto"`    // tcp, udp, icmp, another protocol by its number, or "" if it is not known
	Src     string `json:"src"`      // with the port, if the protocol has some; "" if it is not known
	Dst     string `json:"dst"`
	Length  int    `json:"length"`   // in bytes; 0 if it is not known
	LeftOut uint64 `json:"left_out"` // others, after the one before, that are not kept
}
