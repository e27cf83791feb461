package api

// Uplink is where an uplink of a switch leads: the answer of GET /v1/guests/{name}/uplink.
type Uplink struct {
	To       string `json:"to"`        // in the form of --switch-uplink
	Switch   string `json:"switch"`    // its name; "" for the one without a name
	MTU      int    `json:"mtu"`       // that hosts on the switch can have; 0 if there is no way to a remote switch
	TooLarge int    `json:"too_large"` // bytes of the longest frame that was too large for the way; 0 for none
	// Remotes are the remote switches, in the order of the configuration.
	Remotes []UplinkRemote `json:"remotes"`
	// Addresses are MAC addresses behind remote switches, MaxUplinkAddresses at most.
	Addresses []UplinkAddress `json:"addresses"`
}

// MaxUplinkAddresses is how many addresses an Uplink tells.
const MaxUplinkAddresses = 4096

// UplinkRemote is a remote switch.
type UplinkRemote struct {
	Address     string `json:"address"`      // with its port
	Addresses   int    `json:"addresses"`    // how many MAC addresses are known behind it
	HeardMillis *int64 `json:"heard_ago_ms"` // since a frame has come from it; null for never
}

// UplinkAddress is a MAC address behind a remote switch.
type UplinkAddress struct {
	MAC       string `json:"mac"`
	VLAN      int    `json:"vlan"`        // of its frames' tags; 0 for none
	Remote    string `json:"remote"`      // the Address of its UplinkRemote
	AgeMillis int64  `json:"seen_ago_ms"` // as far as it was noted: to a second
}
