package daemon

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
)

// hasLink reports whether there is an interface of a name.
func hasLink(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// What was made for the TAP device of a guest goes with the guest, by way of the broker, and not only in the end.
func TestWhatWasMadeForTheTAPDeviceOfAGuestGoesWithIt(t *testing.T) {
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
	t.Setenv(asProcess, "broker")
	for name, mode := range map[string]sandbox.Mode{"in a sandbox": sandbox.On, "without one": sandbox.Off} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
			dir := shortDir(t)
			config := Config{Sandbox: mode}
			for _, name := range []string{"a", "b"} {
				config.Guests = append(config.Guests, Guest{
					Name: name, SocketPath: filepath.Join(dir, name), TAP: &TAP{Devices: []string{"tap" + name}, Bridge: "br" + name, Queues: 1},
				})
			}
			p, _ := program()
			events := make(chan Event, 1000)
			p.Tell, p.ChangesForwards, p.Broker = func(e Event) { events <- e }, true, broker.Program(os.Args[0])
			d := open(t, config, p)
			d.broker.SetPatience(time.Minute)
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- d.Serve(ctx) }()
			nextOf[Ready](t, events)
			nextOf[Ready](t, events)
			require.True(t, hasLink("tapa") && hasLink("bra") && hasLink("tapb"))

			done, err := d.Change(func(c *Config) error {
				c.Guests = c.Guests[1:]
				return nil
			})
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, done.Removed)
			for deadline := time.Now().Add(time.Minute); hasLink("bra"); time.Sleep(time.Millisecond) { // on this thread, which is in the namespace
				require.True(t, time.Now().Before(deadline), "the bridge is left behind")
			}
			require.False(t, hasLink("tapa"))
			require.True(t, hasLink("tapb") && hasLink("brb"), "another guest's")

			cancel()
			require.NoError(t, <-served)
			require.False(t, hasLink("tapb") || hasLink("brb"))
		})
	}
}
