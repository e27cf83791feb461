package api

// Link says whether frames of a guest pass. GET /v1/guests/{name}/link answers with it, and PUT sets it.
type Link struct {
	State   string `json:"state"`              // LinkUp or LinkDown
	NotKept string `json:"not_kept,omitempty"` // as in Changed; only in answers
}

// States of a link.
const (
	LinkUp   = "up"
	LinkDown = "down"
)

// Emulation says how the link between a guest and its network is emulated. GET /v1/guests/{name}/link/emulation answers with it, and PUT sets it.
type Emulation struct {
	Link string `json:"link"`           // as --link has it, or none
	Seed string `json:"seed,omitempty"` // where chance has begun, a number; only in answers, and missing without a link
}
