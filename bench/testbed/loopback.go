package testbed

import "context"

// Loopback is no back end: the host's own loopback, for Bare. The MTU of a guest does not matter to it.
type Loopback struct{}

// Name implements BackEnd.
func (Loopback) Name() string { return "loopback" }

// VhostUser implements BackEnd.
func (Loopback) VhostUser() bool { return false }

// Version implements BackEnd.
func (Loopback) Version() string { return "" }

// Start implements BackEnd.
func (Loopback) Start(context.Context, Job) (Attachment, error) { return Attachment{}, nil }
