package testbed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vringnet/vring/integration/lab/process"
)

// Options of passt that versions differ in.
const (
	optionVhostUser   = "--vhost-user"        // from 2025 on
	optionMapLoopback = "--map-host-loopback" // before it was there, the gateway led to the loopback
)

// Passt is the passt that is installed, as a vhost-user back end. Versions before 2025 cannot be one.
type Passt struct{}

// Name implements BackEnd.
func (Passt) Name() string { return "passt vhost-user" }

// VhostUser implements BackEnd.
func (Passt) VhostUser() bool { return true }

// Version implements BackEnd.
func (Passt) Version() string { return passtVersion() }

// Start implements BackEnd.
func (p Passt) Start(ctx context.Context, job Job) (Attachment, error) {
	process, err := launchPasst(ctx, job, optionVhostUser)
	return Attachment{Process: process, Socket: job.Socket}, err
}

// PasstStream is the passt that is installed, as QEMU talks to it by its netdev "stream": frames over a unix socket.
type PasstStream struct{}

// Name implements BackEnd.
func (PasstStream) Name() string { return "passt stream" }

// VhostUser implements BackEnd.
func (PasstStream) VhostUser() bool { return false }

// Version implements BackEnd.
func (PasstStream) Version() string { return passtVersion() }

// Start implements BackEnd.
func (PasstStream) Start(ctx context.Context, job Job) (Attachment, error) {
	process, err := launchPasst(ctx, job)
	return Attachment{Process: process, Netdev: streamNetdev(job.Socket)}, err
}

// streamNetdev is the netdev of QEMU that sends frames over a socket.
func streamNetdev(socket string) string {
	return "stream,server=off,addr.type=unix,addr.path=" + socket
}

// passtVersion asks the program, and the package database too: Debian's passt of 2023 does not know its version.
func passtVersion() string {
	path, err := exec.LookPath("passt")
	if err != nil {
		return ""
	}
	out, _ := exec.Command(path, "--version").CombinedOutput()
	version := firstLineWith(string(out), "passt")
	if debian, err := exec.Command("dpkg-query", "-W", "-f", " (Debian ${Version})", "passt").Output(); err == nil {
		version += string(debian)
	}
	return version
}

// firstLineWith returns the first line that begins with a word: old versions also complain about a missing syslog.
func firstLineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// launchPasst starts passt with options that it must know.
func launchPasst(ctx context.Context, job Job, must ...string) (*process.Process, error) {
	path, err := exec.LookPath("passt")
	if err != nil {
		return nil, err
	}
	// The exit status of --help differs between versions.
	help, _ := exec.CommandContext(ctx, path, "--help").CombinedOutput()
	for _, option := range must {
		if !strings.Contains(string(help), option) {
			return nil, fmt.Errorf("%w: %s has no %s", ErrUnsuitable, passtVersion(), option)
		}
	}
	if os.Getuid() == 0 { // it becomes nobody, who makes a socket in the directory; newer ones do not stay root
		if err := os.Chmod(filepath.Dir(job.Socket), 0o777); err != nil {
			return nil, err
		}
	}
	args := append(passtArguments(job), must...)
	if strings.Contains(string(help), optionMapLoopback) {
		args = append(args, optionMapLoopback, router)
	}
	return Launch(ctx, exec.Command(path, args...), func(*process.Process) bool {
		_, err := os.Stat(job.Socket)
		return err == nil
	})
}

// passtArguments are those that all versions have.
func passtArguments(job Job) []string {
	forward := fmt.Sprintf("127.0.0.1/%d:%d", job.ForwardPort, guestPort)
	args := []string{
		"--foreground", "--socket", job.Socket, "--ipv4-only",
		"--address", guestAddress, "--netmask", "24", "--gateway", router, "--mtu", strconv.Itoa(job.MTU),
		"--tcp-ports", forward, "--udp-ports", forward,
	}
	return args
}
