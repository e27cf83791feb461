package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

func TestAGuestIsAddedAndRemovedByVringCtl(t *testing.T) {
	c := startControlled(t)
	dir, port := filepath.Dir(c.socket), porttest.FreePort(t).Port()
	file := filepath.Join(dir, "vm1.yaml")
	text := fmt.Sprintf("name: later\nsocket-path: %s/later.sock\nnat:\n  network: 10.9.0.0/24\n  forwards:\n    - %d:22\n", dir, port)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	status, stdout, stderr := c.ctl("guest", "add", file)
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "+ guests: later\n", stdout)
	_, stdout, _ = c.ctl("forward", "list", "later")
	require.Contains(t, stdout, fmt.Sprintf("tcp:127.0.0.1:%d:10.9.0.15:22", port))
	_, stdout, _ = runHere(t, "__complete", "ctl", "--control", c.control, "guest", "remove", "")
	require.Contains(t, stdout, "later")
	_, stdout, _ = c.ctl("policy", "replace", "--guest", "later", "--deny", "192.0.2.0/24")
	require.Equal(t, "+ later: rules: deny: 192.0.2.0/24\n", stdout)
	_, stdout, _ = c.ctl("policy", "show", "--guest", "later")
	require.Contains(t, stdout, "192.0.2.0/24")
	_, stdout, _ = c.ctl("policy", "show")
	require.NotContains(t, stdout, "192.0.2.0/24")
	status, stdout, stderr = c.ctl("guest", "remove", "later")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "- guests: later\n", stdout)
	require.NoFileExists(t, filepath.Join(dir, "later.sock"))

	for name, wrong := range map[string]struct{ text, want string }{
		"a key":         {"socket-path: /a\nstub:\n  mod: echo\n", file + ":3:3: stub has no key \"mod\""},
		"another place": {"socket-path: /tmp/later.sock\nstub: {}\n", "no guest has its socket in /tmp"},
		"a file":        {"socket-path: " + file + "\nstub: {}\n", "exists already"},
	} {
		require.NoError(t, os.WriteFile(file, []byte(wrong.text), 0o600))
		status, _, stderr := c.ctl("guest", "add", file)
		require.NotEqual(t, exitOK, status, name)
		require.Contains(t, stderr, wrong.want, name)
	}
	for _, args := range [][]string{{"guest", "add"}, {"guest", "add", "/no/such/file"}, {"guest", "remove"}, {"guest", "remove", "nobody"}, {"guest", "remove", "10.0.2.15"}} {
		status, _, _ := c.ctl(args...)
		require.Equal(t, exitUsage, status, args)
	}
}

// has is what a process has that could leak.
type has struct{ files, mappings, threads, goroutines int }

// hasOf looks at the process that serves guests, and asks it.
func hasOf(t *testing.T, client *control.Client, server int) (h has) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", server))
	require.NoError(t, err)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", server))
	require.NoError(t, err)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", server))
	require.NoError(t, err)
	var status api.Status
	require.NoError(t, client.Do(t.Context(), http.MethodGet, "/v1/status", nil, &status))
	return has{len(files), bytes.Count(maps, []byte("memfd:guest")), len(threads), int(status.Process.Goroutines)}
}

// Guests that come, meet their front ends, and go leave nothing behind in the process that has served them, nor in the broker.
func TestGuestsThatComeAndGoLeaveNothingBehind(t *testing.T) {
	dir := shortDir(t)
	path := writeConfig(t, fmt.Sprintf("guests: [{socket-path: %s/vm0.sock}]\nnat:\n", dir))
	vring := exec.Command(os.Args[0], "serve", path) // which the end of the test's context does not kill: it is to end well
	vring.Env = append(os.Environ(), asProgram+"=1")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()
	vring.Stderr = log
	require.NoError(t, vring.Start())
	t.Cleanup(func() {
		_ = vring.Process.Signal(os.Interrupt)
		require.NoError(t, vring.Wait())
	})
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(log.Name())
		return strings.Contains(string(text), "msg=ready")
	}, time.Minute, 10*time.Millisecond)
	client := control.NewClient(filepath.Join(dir, "vm0.sock.ctl"))
	defer client.Close()
	memory, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(memory)
	require.NoError(t, unix.Ftruncate(memory, 1<<20))
	broker := brokerOf(t, vring.Process.Pid)
	filesOfBroker := func() int {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", broker))
		require.NoError(t, err)
		return len(files)
	}
	port := porttest.FreePort(t).Port()
	change := func(method, path string, body any) { // one of more than there may be in a second is tried again
		err := client.Do(t.Context(), method, path, body, nil)
		for ; err != nil && strings.Contains(err.Error(), "try again in a second"); err = client.Do(t.Context(), method, path, body, nil) {
			time.Sleep(100 * time.Millisecond)
		}
		require.NoError(t, err)
	}
	meet := func(i int) {
		network := fmt.Sprintf(`"nat": {"network": "10.9.0.0/24", "forwards": ["%d:80"]}`, port)
		if i%2 == 1 {
			network = `"stub": {"mode": "echo"}`
		}
		socket := filepath.Join(dir, "later.sock")
		text := fmt.Sprintf(`{"name": "later", "socket-path": %q, %s}`, socket, network)
		change(http.MethodPost, "/v1/guests", json.RawMessage(text))
		fe, err := frontend.Dial(socket)
		require.NoError(t, err)
		setup := frontend.Setup{Order: frontend.QEMU11}
		require.NoError(t, fe.Negotiate(0, setup.Protocol()))
		require.NoError(t, fe.SetMemTable([]guestmem.Region{{GPA: 0x1000, UVA: 0x1000, Size: 1 << 20, FD: memory}}))
		change(http.MethodDelete, "/v1/guests/later", nil)
		_, err = fe.GetFeatures()
		require.Error(t, err, "the session has ended")
		require.NoError(t, fe.Close())
	}
	for i := range 20 { // threads of the runtime come as they are needed
		meet(i)
	}
	server := process.Server(vring.Process.Pid)
	before, brokers := hasOf(t, client, server), filesOfBroker()
	for i := range 200 {
		meet(i)
	}
	const slack = 4 // goroutines and threads that others need for a moment
	require.Eventually(t, func() bool {
		now := hasOf(t, client, server)
		return now.files <= before.files && now.mappings == 0 && now.threads <= before.threads+slack && now.goroutines <= before.goroutines+slack &&
			filesOfBroker() <= brokers
	}, time.Minute, 50*time.Millisecond, "before: %+v, and now: %+v", before, hasOf(t, client, server))
}
