package api

// Stopping is the answer of POST /v1/stop. The process ends then, as with SIGTERM.
type Stopping struct {
	Stopping bool `json:"stopping"` // true
}

// DrainRequest is the body of POST /v1/drain, which may be empty.
type DrainRequest struct {
	// TimeoutMillis is after which time the process ends all the same; 0 for never.
	TimeoutMillis int64 `json:"timeout_ms,omitempty"`
}

// Drain is whether the process ends when its guests' connections have, and lets nothing new begin until then: the answer of GET, POST and
// DELETE /v1/drain.
type Drain struct {
	Draining bool   `json:"draining"`
	Since    string `json:"since,omitempty"` // RFC 3339, with milliseconds
	Until    string `json:"until,omitempty"` // when it ends all the same
	Flows    *int   `json:"flows"`           // that are left, of each guest 1000 at most; null if that is not known yet, or nobody counts
}
