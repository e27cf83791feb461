package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// shown is a command on a page, with what it prints.
type shown struct {
	where, command string
	prints         []string
}

// consoles returns the commands in a section of a page's, in their order.
func consoles(t *testing.T, page, heading string) (all []shown) {
	t.Helper()
	_, section, found := strings.Cut(readPage(t, page), "# "+heading+"\n")
	require.True(t, found, heading)
	_, text, found := strings.Cut(section, "\n```console\n")
	require.True(t, found, heading)
	text, _, _ = strings.Cut(text, "\n```")
	for line := range strings.SplitSeq(text, "\n") {
		if where, command, found := strings.Cut(line, "$ "); found && (where == "host" || where == "guest") {
			all = append(all, shown{where: where, command: command})
			continue
		}
		require.NotEmpty(t, all, "a block begins with a command")
		last := &all[len(all)-1]
		last.prints = append(last.prints, line)
	}
	return all
}

// What the page says that its recipes do, they do. The guest is without a machine, so that vring is asked to serve a stream beside what
// the page says, at a socket of the test's.
func TestTheRecipesOfThePage(t *testing.T) {
	t.Parallel()
	for _, heading := range []string{"An agent", "A CI job", "A kiosk", "Groups"} {
		t.Run(heading, func(t *testing.T) {
			e := newEgress(t)
			for name, address := range map[string]string{"api.anthropic.com": "203.0.113.50", "pypi.org": "203.0.113.51", "paste.example": evilAddress,
				"deb.debian.org": "203.0.113.52", "mirror.office.example": "10.20.0.7", "secrets.builds.office.example": "10.20.0.8",
				"github.com": "203.0.113.53", "museum.example": "203.0.113.54", "pictures.museum.example": "203.0.113.54",
				"admin.museum.example": "203.0.113.54", "www.example.com": evilAddress} {
				e.names.address(name, 60, address)
			}
			for _, s := range consoles(t, "egress.md", heading) {
				e.follow(t, s)
			}
		})
	}
}

// follow does what the page shows.
func (e *egress) follow(t *testing.T, s shown) {
	t.Helper()
	s.command = strings.ReplaceAll(s.command, "/tmp/", e.dir+"/")
	if s.where == "host" && strings.HasPrefix(s.command, "vring nat ") {
		require.Empty(t, s.prints)
		e.startShown(t, s.command)
		return
	}
	ns, resolvers := e.host.Namespace, "nameserver "+resolver+"\n"
	if s.where == "guest" {
		ns, resolvers = e.guest.Namespace, "nameserver 10.0.2.3\n"
	}
	out := e.shell(t, s.command, e.as(ns, resolvers, userland.Bookworm))
	for _, line := range s.prints {
		require.Contains(t, out, line, s.command)
	}
	require.Len(t, strings.Split(strings.TrimSpace(out), "\n"), max(len(s.prints), 1), "%s printed more than the page shows: %s", s.command, out)
}

// shell runs a command line with vring on the PATH, and returns what it prints.
func (e *egress) shell(t *testing.T, line string, thread func() error) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Env = []string{"PATH=" + filepath.Dir(built.vring) + ":" + os.Getenv("PATH"), "HOME=" + e.dir, "CURL_CA_BUNDLE=" + e.web.file}
	p, err := process.Start(e.ctx, cmd, process.Options{Thread: thread})
	require.NoError(t, err)
	_ = p.Wait(egressLimit)
	return p.Output()
}

// startShown starts vring by a command line of the page, and the guest on it.
func (e *egress) startShown(t *testing.T, line string) {
	t.Helper()
	_, path, found := strings.Cut(line, "--socket-path ")
	require.True(t, found)
	path, _, _ = strings.Cut(path, " ")
	d := &daemon{t: t, Socket: path}
	cmd := exec.Command("/bin/sh", "-c", "exec "+line+" --front-end stream")
	cmd.Env = []string{"PATH=" + filepath.Dir(built.vring) + ":" + os.Getenv("PATH"), "HOME=" + e.dir}
	var err error
	d.Process, err = process.Start(context.Background(), cmd,
		process.Options{Thread: e.as(e.host.Namespace, "nameserver "+resolver+"\n", userland.Bookworm)})
	require.NoError(t, err)
	t.Cleanup(d.terminate)
	require.Eventually(t, d.ready, soon, tick, "vring is not ready")
	e.vring, e.guest = d, e.plug(path, 15)
}
