package shard

import (
	"time"

	"github.com/vringnet/vring/internal/counting"
)

// Handshakes are how long connections of a guest took to open. Its queue pairs share them.
type Handshakes struct {
	FromGuest *counting.Histogram // from the guest's SYN to the answer of the host's peer
	ToGuest   *counting.Histogram // from when the host has begun the connection to the guest's answer
}

// setUp makes h empty.
func (h *Handshakes) setUp() {
	const (
		least  = 100 * time.Microsecond
		bounds = 11 // the last one is 105 s
	)
	h.FromGuest, h.ToGuest = counting.NewHistogram(least, bounds), counting.NewHistogram(least, bounds)
}
