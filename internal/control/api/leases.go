package api

// Lease is an address that a host behind a guest's network card has by DHCP. GET /v1/guests/{name}/leases answers with all of them.
type Lease struct {
	Address     string `json:"address"`
	MAC         string `json:"mac"`
	Name        string `json:"name"`         // as the host calls itself; "" if it has not said
	Fixed       bool   `json:"fixed"`        // the configuration gives it to that host, which may not be there
	LeftSeconds *int64 `json:"left_seconds"` // until it may be given to others; null for one that its host keeps
}

// HostName is a name that a guest finds in the zone of guests, of itself or of another guest, with one of its addresses. GET
// /v1/guests/{name}/host-names answers with all of them. A name leads to the first address of
// each version of IP that is there with it, and each address back to its first name.
type HostName struct {
	Name    string `json:"name"` // without its zone
	Address string `json:"address"`
}

// Resolvers is who answers a guest's names: the answer of GET /v1/guests/{name}/resolvers.
type Resolvers struct {
	File           string     `json:"file"`        // that they are read from; "" for those of the configuration, or none
	PatienceMillis int64      `json:"patience_ms"` // how long one may be silent before the next one is asked, too
	Resolvers      []Resolver `json:"resolvers"`   // in their order; those of a file are known once the guest has asked
}

// NameCache is what is kept of answers to a guest's names: the answer of GET /v1/guests/{name}/dns-cache.
type NameCache struct {
	On    bool           `json:"on"`    // answers are kept
	Names []CachedName   `json:"names"` // that used last first
	Stats NameCacheStats `json:"stats"`
}

// NameCacheStats are what has become of a guest's queries with answers that are kept.
type NameCacheStats struct {
	Entries int    `json:"entries"` // that are kept now, with those that are over
	Bytes   int    `json:"bytes"`   // of those and their queries
	Hits    uint64 `json:"hits"`
	Misses  uint64 `json:"misses"`
	Expired uint64 `json:"expired"` // of those, that had an answer which is over
	Stale   uint64 `json:"stale"`   // queries that were answered by one that is over, since no resolver has given one
}

// CachedName is one of those.
type CachedName struct {
	Name        string `json:"name"` // as the guest has written it
	Type        string `json:"type"` // such as AAAA
	Code        string `json:"code"` // such as NOERROR or NXDOMAIN
	LeftSeconds int64  `json:"left_seconds"`
}

// ForgottenNames is the answer of DELETE /v1/guests/{name}/dns-cache.
type ForgottenNames struct {
	Forgotten int `json:"forgotten"` // so many answers
}

// Resolver is one of those.
type Resolver struct {
	Address    string           `json:"address"`               // in the form of --dns
	Domain     string           `json:"domain,omitempty"`      // that it is asked for, and for nothing else; missing for the rest
	First      bool             `json:"first"`                 // the next query by UDP goes there first, unless the file says that they take turns
	AnsweredMS *int64           `json:"answered_ms"`           // how long ago it has answered last; null for never
	UDP        *ResolverFailure `json:"udp_failure,omitempty"` // missing while it works
	TCP        *ResolverFailure `json:"tcp_failure,omitempty"`
	TLS        *ResolverFailure `json:"tls_failure,omitempty"` // only of tls://
}

// ResolverFailure is that a resolver has failed by one transport, and has not answered since.
type ResolverFailure struct {
	AgoMillis   int64 `json:"ago_ms"`
	AgainMillis int64 `json:"again_ms"` // until it is tried again; 0 if by the next query
}
