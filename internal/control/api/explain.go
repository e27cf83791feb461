package api

// Explanation is what becomes of a flow that a guest begins now, and why: the answer of GET /v1/guests/{name}/explain.
type Explanation struct {
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
	By      string `json:"by"`      // the option that decides; "" for none
	OpenBy  string `json:"open_by"` // the option that would open the destination; "" if it is open, or none can
	Owner   string `json:"owner"`   // whose the address is; "" for one of vring's own
	Host    string `json:"host"`    // where it leads on the host's side; "" if it is closed, or answered by vring itself
	Source  string `json:"source"`  // the host's address that the peer sees; "" for none
}
