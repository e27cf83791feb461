package api

// Explanation is what becomes of a flow that a guest begins now, and why: the answer of GET /v1/guests/{name}/explain.
type Explanation struct {
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
	By      string `json:"by"`            // the option that decides; "" for none
	OpenBy  string `json:"open_by"`       // the option that would open the destination; "" if it is open, or none can
	Owner   string `json:"owner"`         // whose the address is; "" for one of vring's own
	Host    string `json:"host"`          // where it leads on the host's side; "" if it is closed, or answered by vring itself
	Source  string `json:"source"`        // the host's address that the peer sees; "" for none
	Way     string `json:"way,omitempty"` // how it leaves the host, as keys of a rule; "" as the host's routes say

	// Proof is how the connection must tell its server before the host's socket gets a byte: any of "tls", "http" and "quic". Without it, it need not.
	Proof []string       `json:"proof,omitempty"`
	Name  *NameExplained `json:"name,omitempty"` // of a destination with a name
}

// NameExplained is what becomes of a name.
type NameExplained struct {
	MayAsk    bool               `json:"may_ask"` // the guest's name server answers
	Why       string             `json:"why"`
	By        string             `json:"by"`        // the option that decides that; "" for none
	Addresses []AddressExplained `json:"addresses"` // that the guest was answered, and that are still good
	More      int                `json:"more"`      // how many there are beside those
}

// AddressExplained is what becomes of a flow to an address of a name, which tells the name if it must.
type AddressExplained struct {
	Address string `json:"address"`
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
	By      string `json:"by"` // the option that decides; "" for none
}
