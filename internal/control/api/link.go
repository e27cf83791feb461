package api

// Link says whether frames of a guest pass. GET /v1/guests/{name}/link answers with it, and PUT sets it.
type Link struct {
	State string `json:"state"` // LinkUp or LinkDown
}

// States of a link.
const (
	LinkUp   = "up"
	LinkDown = "down"
)
