package api

// Stopping is the answer of POST /v1/stop. The process ends then, as with SIGTERM.
type Stopping struct {
	Stopping bool `json:"stopping"` // true
}
