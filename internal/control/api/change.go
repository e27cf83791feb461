package api

// Forward is a forward of a guest. Answers have Text, Guest and all other fields that are not zero. A request says the same by Text alone,
// or by the other fields.
type Forward struct {
	Text         string `json:"text,omitempty"`          // as -p of vring nat reads it
	Guest        string `json:"guest,omitempty"`         // name of the guest that it leads to; not read in requests
	Proto        string `json:"proto,omitempty"`         // tcp or udp; tcp if a request does not say
	HostAddress  string `json:"host_address,omitempty"`  // 127.0.0.1 if a request does not say
	HostPort     uint16 `json:"host_port,omitempty"`     // the first one
	Interface    string `json:"interface,omitempty"`     // of the host, by which clients come
	IfFree       bool   `json:"if_free,omitempty"`       // ports that cannot be had are left out, if one can
	Freebind     bool   `json:"freebind,omitempty"`      // the host need not have the address
	Path         string `json:"path,omitempty"`          // of a unix socket, instead of a port of the host
	GuestAddress string `json:"guest_address,omitempty"` // that of the guest if a request does not say
	GuestPort    uint16 `json:"guest_port,omitempty"`    // the first one
	Count        uint16 `json:"count,omitempty"`         // of ports; 1 if a request does not say
	Gate         bool   `json:"gate,omitempty"`          // the host's ports refuse connections while the guest's do
	AcceptProxy  bool   `json:"accept_proxy,omitempty"`  // clients begin with a PROXY header
	SendProxy    uint8  `json:"send_proxy,omitempty"`    // version of the PROXY header that the guest gets, 0 for none
}

// ForwardChange is what PATCH /v1/forwards does, and PATCH /v1/guests/{name}/forwards: forwards go, and others come, at once.
type ForwardChange struct {
	Remove []Forward `json:"remove,omitempty"` // which there are
	Add    []Forward `json:"add,omitempty"`    // which there are not
}

// Rule opens or closes destinations: it has one of its fields, in the form of the option of that name.
type Rule struct {
	Allow     string `json:"allow,omitempty"`
	Deny      string `json:"deny,omitempty"`
	AllowName string `json:"allow_name,omitempty"`
	DenyName  string `json:"deny_name,omitempty"`
}

// Policy is where guests may go. GET /v1/policy answers with it, and PUT /v1/policy, which has the first three fields, and others that change, replaces it.
type Policy struct {
	Rules       []Rule   `json:"rules"`                 // the first that matches decides
	Restrict    bool     `json:"restrict"`              // what no rule decides is closed
	AllowHost   []string `json:"allow_host"`            // services of the host that are open, in the form of --allow-host
	Redirects   []string `json:"redirects,omitzero"`    // where destinations lead, in the form of --redirect; missing in a PUT, those that there are stay
	NameGroups  []string `json:"name_groups,omitzero"`  // names that rules name together, as GROUP=NAME[,NAME]...; missing in a PUT, those that there are stay
	RefuseNames string   `json:"refuse_names,omitzero"` // refused or nxdomain: what guests are told of names that rules refuse; missing in a PUT, it stays
	// Way is how what guests send leaves the host, as keys of a rule: "via=socks5://192.0.2.1:1080;interface=wg0". Missing in a PUT, it
	// stays. Passwords are never told: "***" stands for one, and means in a PUT that which the policy has for the same proxy and user.
	Way *string `json:"way,omitempty"`
	// Hits are what was counted for each of Rules, in their order, and behind them for what no rule decides. A PUT may have them, and they
	// are not read.
	Hits []Hits `json:"hits,omitempty"`
}

// Hits are what was counted for a rule since it is in the policy. A change of the policy that leaves the rule as it is written does not change them.
type Hits struct {
	Begun     uint64 `json:"begun"`      // connections, associations and series of pings that it has let through
	Denied    uint64 `json:"denied"`     // those that it has not
	FromGuest uint64 `json:"from_guest"` // bytes of payload of those that are over
	ToGuest   uint64 `json:"to_guest"`
}

// Names are DNS names that are answered without a resolver. GET /v1/dns-names answers with those that guests share, and PUT /v1/dns-names
// replaces them.
type Names struct {
	Names []string `json:"names"` // in the form of --dns-name; the first that is about a name decides
}

// ResolverSettings are who is asked for names. GET /v1/resolvers answers with those that guests share, and PUT /v1/resolvers replaces them.
type ResolverSettings struct {
	Resolvers []string `json:"resolvers"` // in the form of --dns; none for those of the host's resolv.conf
	Domains   []string `json:"domains"`   // domains that have others, in the form of --dns-for
}

// LogLevel is the lowest level that is logged. GET /v1/log-level answers with it, and PUT /v1/log-level sets it.
type LogLevel struct {
	Level string `json:"level"` // debug, info, warn or error
}

// Changed is the answer to a request that has changed the configuration.
type Changed struct {
	Changed []Difference `json:"changed"` // none if it was so already
	Gaps    []Gap        `json:"gaps"`    // forwards that were closed for a moment
	// Waiting are guests one of whose threads has not answered yet: it makes the change before it handles a frame again.
	Waiting []string `json:"waiting"`
	// Undone is what was changed at the control socket and goes back, since the file says otherwise. Only a reload has any.
	Undone []Difference `json:"undone"`
	// NotKept is why a change that was made is not in the file of the state, so that it is lost with the process; missing if it is, or if there is none.
	NotKept string `json:"not_kept,omitempty"`
}

// Difference is a key of the configuration file whose values are not the same before and after, or in the file and now.
type Difference struct {
	Key     string   `json:"key"`
	Removed []string `json:"removed"` // values of before, or of the file
	Added   []string `json:"added"`   // values of after, or of now
	Moved   bool     `json:"moved"`   // those that both have are in another order
}

// Gap is a forward that was closed for a moment, because another one needed its place.
type Gap struct {
	Forward string `json:"forward"`
	Micros  int64  `json:"micros"`
}

// ConfigDiff is what runs beside what the file says. GET /v1/config/diff answers with it.
type ConfigDiff struct {
	File        string       `json:"file"`        // "" for a vring without one: what runs is compared with its start
	Path        string       `json:"path"`        // the file's absolute path, "" for none
	State       string       `json:"state"`       // path of the file in which the differences are kept; "" if they are not
	Adopted     string       `json:"adopted"`     // SHA-256 of the file as it was when it was adopted last, in hexadecimal; "" without one
	Differences []Difference `json:"differences"` // none if it is the same
}

// ConfigSaved says that the configuration file was written as what runs: POST /v1/config/saved has it, and answers with it.
type ConfigSaved struct {
	SHA256 string `json:"sha256"` // of the file, in hexadecimal
}

// Fault is one of several things that are wrong.
type Fault struct {
	Text   string `json:"text"`
	File   string `json:"file,omitempty"` // of what is wrong in the configuration file
	Line   int    `json:"line,omitempty"` // from 1
	Column int    `json:"column,omitempty"`
}
