package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vringnet/vring/integration/process"
)

// Passt is the passt that is installed. Versions before 2025 cannot be vhost-user back ends. The arguments follow its manual
// page of 2026.
type Passt struct{}

const vhostUserOption = "--vhost-user"

// Name implements BackEnd.
func (Passt) Name() string { return "passt" }

// Version implements BackEnd.
func (Passt) Version() string {
	path, err := exec.LookPath("passt")
	if err != nil {
		return ""
	}
	out, _ := exec.Command(path, "--version").CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// Start implements BackEnd.
func (p Passt) Start(ctx context.Context, job Job) (*process.Process, error) {
	path, err := exec.LookPath("passt")
	if err != nil {
		return nil, err
	}
	// The exit status of --help differs between versions.
	help, _ := exec.CommandContext(ctx, path, "--help").CombinedOutput()
	if !strings.Contains(string(help), vhostUserOption) {
		return nil, fmt.Errorf("%w: %s has no %s", ErrUnsuitable, p.Version(), vhostUserOption)
	}
	return Launch(ctx, exec.Command(path, p.arguments(job)...), func(*process.Process) bool {
		_, err := os.Stat(job.Socket)
		return err == nil
	})
}

func (Passt) arguments(job Job) []string {
	args := []string{
		"--foreground", vhostUserOption, "--socket", job.Socket,
		"--ipv4-only", "--address", guestPrefix, "--gateway", router, "--mtu", strconv.Itoa(job.MTU),
		"--map-host-loopback", router,
		"--tcp-ports", fmt.Sprintf("127.0.0.1/%d:%d", job.ForwardPort, guestPort), "--udp-ports", "none",
	}
	if uid := os.Getuid(); uid == 0 {
		// It would become nobody, who may not make a socket in the directory.
		args = append(args, "--runas", strconv.Itoa(uid))
	}
	return args
}
