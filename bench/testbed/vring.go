package testbed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
)

// Vring is a build of vring.
type Vring struct {
	Label string // its name in the run
	Path  string // of the program
	IPv6  bool   // traffic is of IPv6
	// Stream is that the front end shares no memory, as with PasstStream.
	Stream bool
}

// Name implements BackEnd.
func (v Vring) Name() string { return v.Label }

// VhostUser implements BackEnd.
func (v Vring) VhostUser() bool { return !v.Stream }

// Version implements BackEnd: the beginning of the program's SHA-256, which tells builds apart.
func (v Vring) Version() string {
	program, err := os.ReadFile(v.Path)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(program)
	return "sha256:" + hex.EncodeToString(sum[:6])
}

// The same in IPv6.
const (
	guestAddress6 = "fd00:10:0:2::15"
	router6       = "fd00:10:0:2::2"
)

// Start implements BackEnd. The guest's networks are vring's defaults.
func (v Vring) Start(ctx context.Context, job Job) (Attachment, error) {
	n := networkOf(v)
	forward := fmt.Sprintf("%s:%s", netip.AddrPortFrom(n.loopback, uint16(job.ForwardPort)), netip.AddrPortFrom(n.guest, guestPort))
	cmd := exec.Command(v.Path, "nat",
		"--socket-path", job.Socket,
		"--mtu", strconv.Itoa(job.MTU),
		"--allow-host", fmt.Sprintf("tcp:%d", job.HostPort),
		"--allow-host", fmt.Sprintf("udp:%d", job.HostPort),
		"-p", forward, "-p", "udp:"+forward)
	if v.Stream {
		cmd.Args = append(cmd.Args, "--front-end", "stream")
	}
	p, err := Launch(ctx, cmd, SaysReady)
	if v.Stream {
		return Attachment{Process: p, Netdev: streamNetdev(job.Socket)}, err
	}
	return Attachment{Process: p, Socket: job.Socket}, err
}
