package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Config tells a Server where its front ends come from and what they get.
type Config struct {
	// SocketPath is the unix socket to listen on, or to dial with Client. At most 107 bytes.
	SocketPath string
	// SocketMode is who may connect to the socket that is listened on: the permission bits of its file, which it has from
	// the first instant. 0 means 0600, the owner alone. Whoever may connect can be the guest's front end.
	SocketMode os.FileMode
	// SocketGroup is the number of the group that the socket's file is given to; 0 leaves it with the process's own.
	SocketGroup int
	// Client makes the server dial SocketPath, and dial again when the front end goes away.
	Client bool
	// OneOff makes Serve return when the first front end has gone, as with an inherited connection.
	OneOff bool
	// Dial connects to SocketPath for Client; nil does it in this process.
	Dial func(ctx context.Context, path string) (*net.UnixConn, error)
	// KeepFile reports whether the file of the socket that was made is left where it is when Serve ends, for somebody else
	// to remove it; nil is no.
	KeepFile func() bool
	// Listen listens on SocketPath for a process that may not do so itself: the descriptor is the server's, and the file the caller's. nil
	// listens in this process.
	Listen func(path string) (fd int, err error)
	// FD is used when SocketPath is empty: an inherited unix stream socket, listening or connected to a front end. The
	// server takes it over.
	FD int

	// Device is the data path. It is the server's as long as Serve runs.
	Device Device
	// QueuesHint is what a user can do about too few queue pairs, in the words of the program, as in "see --queues". It is
	// logged where a front end seems to want more of them.
	QueuesHint string
	// Memory bounds what front ends can have the server map. The zero value means that no other guest is served by this
	// process: guestmem.LimitsFor(1).
	Memory guestmem.Limits
	// Staged is called with each new Stage, on a goroutine that must not be held up; nil for nobody. A guest decides how often.
	Staged func(Stage)
	// Log gets what a user should know, key-value pairs only; nil discards it.
	Log *slog.Logger

	// Timeout bounds how long a front end may leave a reply unread or a message incomplete; 0 means 5 seconds.
	Timeout time.Duration
}

// maxPairs is the number of queue pairs whose rings a front end can name: ring indices have 8 bits.
const maxPairs = 128

func (c *Config) check() error {
	if c.Device == nil {
		return errors.New("no device")
	}
	if n := c.Device.QueuePairs(); n < 1 || n > maxPairs {
		return fmt.Errorf("%d queue pairs, want 1 to %d", n, maxPairs)
	}
	if c.SocketPath == "" && c.Client {
		return errors.New("client without a socket path")
	}
	if c.SocketMode&^os.ModePerm != 0 {
		return fmt.Errorf("socket mode %#o: want permission bits only, as in 0660", uint32(c.SocketMode))
	}
	return nil
}

// listens reports whether the server makes the socket that front ends connect to.
func (c *Config) listens() bool { return c.SocketPath != "" && !c.Client }

func (c *Config) setDefaults() {
	if c.Dial == nil {
		c.Dial = Dial
	}
	if c.SocketMode == 0 {
		c.SocketMode = 0o600
	}
	if c.Memory == (guestmem.Limits{}) {
		c.Memory = guestmem.LimitsFor(1)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Staged == nil {
		c.Staged = func(Stage) {}
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
}
