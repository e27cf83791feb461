package netbackend

// Filler is the way into the guest's receive queue.
type Filler struct{}
