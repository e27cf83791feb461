package testbed

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// QEMUUser is QEMU's netdev "user" (libslirp): a network that is a part of QEMU. Its MTU is 1500, whatever the guest's is.
type QEMUUser struct{}

// Name implements BackEnd.
func (QEMUUser) Name() string { return "QEMU user" }

// VhostUser implements BackEnd.
func (QEMUUser) VhostUser() bool { return false }

// Version implements BackEnd.
func (QEMUUser) Version() string {
	out, _ := exec.Command("qemu-system-x86_64", "--version").CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// Start implements BackEnd. The guest's network is QEMU's default.
func (QEMUUser) Start(_ context.Context, job Job) (Attachment, error) {
	forward := func(protocol string) string {
		return fmt.Sprintf("hostfwd=%s:%s-%s:%d", protocol, local(job.ForwardPort), guestAddress, guestPort)
	}
	return Attachment{Netdev: "user," + forward("tcp") + "," + forward("udp")}, nil
}
