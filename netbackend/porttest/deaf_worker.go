package porttest

import "github.com/vringnet/vring/netbackend"

// DeafWorker is a netbackend.Worker that watches nothing, for tests that give a Port no events.
type DeafWorker struct{}

// Register implements netbackend.Worker, as the methods below do.
func (DeafWorker) Register(int, uint64) error { return nil }

// RegisterInput does nothing.
func (DeafWorker) RegisterInput(int, uint64) error { return nil }

// Unregister does nothing.
func (DeafWorker) Unregister(int) {}

// Rearm does nothing.
func (DeafWorker) Rearm(int, uint64) error { return nil }

// Raise does nothing.
func (DeafWorker) Raise(netbackend.Notice) {}

// Fault does nothing.
func (DeafWorker) Fault(error) {}
