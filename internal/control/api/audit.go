package api

// AuditLog is how the audit log stands. GET /v1/audit-log and POST /v1/audit-log/reopened answer with it.
type AuditLog struct {
	Path  string `json:"path"`  // of the file, as it was named; "-" for standard output, "" for none
	On    bool   `json:"on"`    // lines are added
	Bytes int64  `json:"bytes"` // that the file has; 0 for standard output
	Fails bool   `json:"fails"` // the last lines could not be added, and are counted as lost
}

// AuditLogChange is what is to change of it: the body of PUT /v1/audit-log.
type AuditLogChange struct {
	Path string `json:"path,omitempty"` // another file beside that of the start, whose name begins and ends alike; missing if it stays
	On   *bool  `json:"on,omitempty"`   // whether lines are added; missing if that stays
}

// Learned is what was learned so far of the network of a guest: the answer of GET /v1/guests/{name}/learned.
type Learned struct {
	Rules   []LearnedRule `json:"rules"`    // by name, then by address
	Asked   []AskedName   `json:"asked"`    // names that were asked for without a connection that followed
	Telling int           `json:"telling"`  // connections that have begun, and have not told their server yet
	LeftOut uint64        `json:"left_out"` // connections and names for which there was no room
	Lost    uint64        `json:"lost"`     // entries that were not seen, of all networks
}

// LearnedRule is a rule that would have sufficed for what guests did.
type LearnedRule struct {
	Rule  string `json:"rule"`  // as an option of vring nat
	Count uint64 `json:"count"` // of uses
	First string `json:"first"` // time of the first one, RFC 3339
	Last  string `json:"last"`
	Note  string `json:"note,omitempty"` // of an address: what it was called; missing if nothing tells
}

// AskedName is a name that was asked for.
type AskedName struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
	First string `json:"first"`
	Last  string `json:"last"`
}
