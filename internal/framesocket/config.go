package framesocket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/ownrings"
)

// Framing is how a socket has frames.
type Framing int

// The framings.
const (
	Stream    Framing = iota // SOCK_STREAM: each frame with its length before it
	Packets                  // SOCK_SEQPACKET: a packet is a frame
	Datagrams                // SOCK_DGRAM: a datagram is a frame
)

// kind is the type of the sockets.
func (f Framing) kind() int {
	return [...]int{Stream: unix.SOCK_STREAM, Packets: unix.SOCK_SEQPACKET, Datagrams: unix.SOCK_DGRAM}[f]
}

// String names the type of the sockets.
func (f Framing) String() string {
	return [...]string{Stream: "a stream socket", Packets: "a socket of packets (SOCK_SEQPACKET)", Datagrams: "a datagram socket"}[f]
}

// Device is the data path that a Server drives, with one queue pair: ring 0 is the receive queue and ring 1 the transmit queue.
// worker.Device is one. See vhostuser.Device for the calls.
type Device = ownrings.Device

// Config tells a Server where its front ends come from and what they get.
type Config struct {
	// Framing is how front ends have frames.
	Framing Framing
	// SocketPath is the unix socket to listen on, or to dial with Client.
	SocketPath string
	// SocketMode and SocketGroup say who may connect, as in vhostuser.Config. 0 is the owner alone.
	SocketMode  os.FileMode
	SocketGroup int
	// Client makes the server dial SocketPath, and dial again when the front end goes away.
	Client bool
	// OneOff makes Serve return when the first front end has gone.
	OneOff bool
	// Dial connects to SocketPath for Client; nil does it in this process.
	Dial func(ctx context.Context, path string) (*net.UnixConn, error)
	// KeepFile and Listen are as in vhostuser.Config.
	KeepFile func() bool
	Listen   func(path string) (fd int, err error)
	// Meet connects the socket of datagrams at SocketPath to who has sent to it; nil does it in this process. With Datagrams, Listen makes
	// the socket without listening, and is called by Serve.
	Meet func(path string) error
	// FD is used when SocketPath is empty: an inherited unix socket of the framing's type, listening or connected. The server takes it over.
	FD int

	// Device is the data path. It is the server's as long as Serve runs.
	Device Device
	// Staged is called when a front end has come or gone, on a goroutine that must not be held up; nil for nobody.
	Staged func(connected bool)
	// Log gets what a user should know; nil discards it.
	Log *slog.Logger
}

func (c *Config) check() error {
	switch {
	case c.Device == nil:
		return errors.New("no device")
	case c.SocketPath == "" && c.Client:
		return errors.New("client without a socket path")
	case c.Framing == Datagrams && c.Client:
		return errors.New("a datagram socket cannot be dialled")
	}
	return nil
}

func (c *Config) setDefaults() {
	if c.SocketMode == 0 {
		c.SocketMode = 0o600
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Staged == nil {
		c.Staged = func(bool) {}
	}
}
