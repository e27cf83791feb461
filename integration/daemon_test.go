package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
)

// testLimit ends a test that hangs. No test needs a tenth of it.
const testLimit = 10 * time.Minute

// soon is the limit for what takes no more than a few seconds on a busy machine.
const soon = time.Minute

// endurance is the environment variable by which tests that have a long form take it: see "make endurance".
const endurance = "VRING_ENDURANCE"

// enduring reports whether tests take their long form.
func enduring() bool { return os.Getenv(endurance) != "" }

// limited returns the context of a test.
func limited(t *testing.T) context.Context { return limitedTo(t, testLimit) }

// limitedTo returns the context of a test that ends after limit, or in its long form after ten times as much.
func limitedTo(t *testing.T, limit time.Duration) context.Context {
	if enduring() {
		limit *= 10
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestALongFormMayTakeTenTimesAsLong(t *testing.T) {
	for setting, want := range map[string]time.Duration{"": time.Hour, "1": 10 * time.Hour} {
		t.Setenv(endurance, setting)
		deadline, _ := limitedTo(t, time.Hour).Deadline()
		require.WithinDuration(t, time.Now().Add(want), deadline, soon)
	}
}

// shortDir makes a directory whose path leaves room for a socket's name, which testing's own may not.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// daemon is vring, as a user starts it.
type daemon struct {
	*process.Process
	t         *testing.T
	emulator  []string // what runs vring, and vring for it; none for vring as it was built for this machine
	args      []string
	inherited []*os.File // file descriptors 3 and up; nil is a gap
	env       []string   // in addition to the test's
	options   process.Options
	Socket    string // where front ends find vring, or vring finds them
	over      bool   // vring has ended, in the way that the test wanted
}

// starter starts vring with a subcommand and more arguments, and waits until it is ready. It must end by itself, without
// an error, on SIGTERM at the end of the test.
type starter func(t *testing.T, command string, args ...string) *daemon

// startVring starts vring with a socket of its own.
func startVring(t *testing.T, command string, args ...string) *daemon {
	return startVringWith(t, process.Options{}, command, args...)
}

// startVringWith is startVring with options for the process.
func startVringWith(t *testing.T, options process.Options, command string, args ...string) *daemon {
	return (&daemon{t: t, options: options}).startAtSocket(command, args...)
}

// startAtSocket starts d with a socket of its own.
func (d *daemon) startAtSocket(command string, args ...string) *daemon {
	d.Socket = filepath.Join(shortDir(d.t), "vring.sock")
	d.args = append([]string{command, "--socket-path", d.Socket}, args...)
	d.start()
	d.t.Cleanup(d.terminate)
	return d
}

func (d *daemon) start() {
	cmd := exec.Command(built.vring, d.args...)
	if len(d.emulator) > 0 {
		cmd = exec.Command(d.emulator[0], append(slices.Clone(d.emulator[1:]), d.args...)...)
	}
	cmd.ExtraFiles = d.inherited
	cmd.Env = append(os.Environ(), d.env...)
	var err error
	// Not the test's context: that ends before the clean-up, which looks at how vring ends.
	d.Process, err = process.Start(context.Background(), cmd, d.options)
	require.NoError(d.t, err)
	if !assert.Eventually(d.t, d.ready, soon, 5*time.Millisecond) {
		d.t.Fatalf("vring is not ready; it printed:\n%s", d.Output())
	}
}

// ready tells whether vring listens; it fails the test if vring has ended.
func (d *daemon) ready() bool {
	select {
	case <-d.Done():
		d.t.Errorf("vring has ended:\n%s", d.Output())
		return true
	default:
		return strings.Contains(d.Output(), "msg=ready")
	}
}

// PID returns the process that serves guests, which the one that was started has started.
func (d *daemon) PID() int { return process.Server(d.Process.PID()) }

// crash ends vring without warning and starts it again on the same socket. The kernel ends the server with the process that was
// started, but does not wait for that.
func (d *daemon) crash() {
	server := d.PID()
	require.NoError(d.t, d.Kill())
	require.Eventually(d.t, func() bool { return syscall.Kill(server, 0) == syscall.ESRCH }, soon, time.Millisecond)
	d.start()
}

// waitOutput waits until vring has printed something.
func (d *daemon) waitOutput(text string) {
	d.t.Helper()
	require.Eventually(d.t, func() bool { return strings.Contains(d.Output(), text) }, soon, 5*time.Millisecond, text)
}

// ended tells that the test has seen vring end, in whatever way.
func (d *daemon) ended() { d.over = true }

func (d *daemon) terminate() {
	if d.over {
		return
	}
	_ = d.Signal(syscall.SIGTERM)
	if err := d.Wait(soon); err != nil {
		d.t.Errorf("vring on SIGTERM: %v", err)
		require.NoError(d.t, d.Kill())
	}
	if d.t.Failed() {
		d.t.Logf("vring printed:\n%s", d.Output())
	}
}

// footprint counts what vring holds.
func (d *daemon) footprint() process.Footprint {
	f, err := process.ReadFootprint(d.PID())
	require.NoError(d.t, err)
	return f
}

// cpuDuring returns the processor time that vring spends while the test sleeps.
func (d *daemon) cpuDuring(interval time.Duration) time.Duration {
	before, err := process.CPUTime(d.PID())
	require.NoError(d.t, err)
	time.Sleep(interval)
	after, err := process.CPUTime(d.PID())
	require.NoError(d.t, err)
	d.t.Logf("vring used %v of processor time in %v", after-before, interval)
	return after - before
}

// ctl returns what vring ctl prints of d.
func (d *daemon) ctl(args ...string) string {
	d.t.Helper()
	at := []string{"--socket-path", d.Socket}
	if i := slices.Index(d.args, "--control"); i >= 0 {
		at = d.args[i : i+2]
	}
	out, err := exec.Command(built.vring, slices.Concat([]string{"ctl"}, at, args)...).CombinedOutput()
	require.NoError(d.t, err, "%s", out)
	return string(out)
}
