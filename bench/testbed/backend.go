package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/vringnet/vring/integration/lab/process"
)

// The guest's network, and the port of its server, TCP and UDP. Every back end must be told, or have the same defaults.
const (
	guestAddress = "10.0.2.15"
	router       = "10.0.2.2" // leads to the host's loopback, for the port that is open
	guestPort    = 5001
)

// network is how the two ends of traffic find each other.
type network struct {
	guest    netip.Addr // the guest's
	bits     int        // of its network
	router   netip.Addr // leads to the host's loopback, for the port that is open
	loopback netip.Addr
}

// networkOf returns the network of the guests of a back end.
func networkOf(b BackEnd) network {
	if v, ok := b.(Vring); ok && v.IPv6 {
		return network{netip.MustParseAddr(guestAddress6), 64, netip.MustParseAddr(router6), netip.IPv6Loopback()}
	}
	return network{
		netip.MustParseAddr(guestAddress), 24, netip.MustParseAddr(router), netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	}
}

// Job is what a back end must do.
type Job struct {
	Socket      string // unix socket to listen on for the front end
	MTU         int
	HostPort    int // port of the host's loopback that the guest reaches at the same port of its router, TCP and UDP
	ForwardPort int // port of the host's loopback to open, TCP and UDP, which leads to guestPort in the guest
}

// Attachment is a back end that runs, and how a front end finds it.
type Attachment struct {
	Process *process.Process // nil if the back end is a part of the front end, or if there is none
	Socket  string           // of a vhost-user back end
	Netdev  string           // QEMU's option for any other, without its identifier
}

// BackEnd is the other side of a guest's network card, with a NAT engine.
type BackEnd interface {
	// Name is short and unique in a run.
	Name() string
	// VhostUser tells whether it is a vhost-user back end. User-mode Linux has no other.
	VhostUser() bool
	// Start runs it, until ctx ends at the latest, and returns when a front end can connect.
	Start(ctx context.Context, job Job) (Attachment, error)
	// Version says which build it is.
	Version() string
}

// readyLimit is generous: a back end listens after some milliseconds.
const readyLimit = 30 * time.Second

// Launch starts a back end and waits until it is ready.
func Launch(ctx context.Context, cmd *exec.Cmd, ready func(*process.Process) bool) (*process.Process, error) {
	p, err := process.Start(ctx, cmd, process.Options{})
	if err != nil {
		return nil, err
	}
	limit := time.After(readyLimit)
	for !ready(p) {
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s has ended: %s", cmd.Path, lastLine(p.Output()))
		case <-limit:
			return nil, errors.Join(fmt.Errorf("%s is not ready: %s", cmd.Path, lastLine(p.Output())), p.Kill())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), p.Kill())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return p, nil
}

// SaysReady tells that vring has logged that front ends can connect.
func SaysReady(p *process.Process) bool { return strings.Contains(p.Output(), "msg=ready") }

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// local returns a port of the loopback.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
