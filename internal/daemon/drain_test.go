package daemon

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// drained is a daemon whose second guest has a flow to a service of the host, and a forward.
type drained struct {
	t       *testing.T
	d       *Daemon
	guest   *sender
	service *net.UDPConn
	opens   spec.HostService
	forward netip.AddrPort
	over    chan struct{} // gets what is told to over
}

func newDrained(t *testing.T) *drained {
	d, _ := openedNAT(t, 1)
	service, opens := udpService(t)
	b := &drained{t, d, sendersOf(t, d.guests[1])[0], service, opens, porttest.FreePort(t), make(chan struct{}, 10)}
	_, err := d.Change(func(c *Config) error {
		c.NAT.AllowHost = []spec.HostService{opens}
		f, err := spec.ParseForward(b.forward.String() + ":10.0.2.16:80")
		c.NAT.Forwards = []spec.Forward{f}
		return err
	})
	require.NoError(t, err)
	b.send(1000)
	hears(t, service, 1)
	return b
}

// send sends a datagram from a port of the guest to the service.
func (b *drained) send(port uint16) { b.guest.send(port, b.opens.Port, "x") }

// start begins to drain.
func (b *drained) start(timeout time.Duration) {
	_, err := b.d.StartDrain(timeout, func() { b.over <- struct{}{} })
	require.NoError(b.t, err)
}

// requireOver waits until the end is asked for.
func (b *drained) requireOver() {
	select {
	case <-b.over:
	case <-time.After(time.Minute):
		require.Fail(b.t, "the end is not asked for")
	}
}

// listens reports whether the forward accepts clients.
func (b *drained) listens() bool {
	c, err := net.Dial("tcp4", b.forward.String())
	if err == nil {
		require.NoError(b.t, c.Close())
	}
	return !errors.Is(err, unix.ECONNREFUSED)
}

func TestNothingNewBeginsWhileItDrains(t *testing.T) {
	b := newDrained(t)
	b.start(0)
	b.send(1000)
	hears(t, b.service, 1)
	require.False(t, b.listens())
	b.send(2000)
	require.Eventually(t, func() bool { return countedBy(t, b.d.guests[1]).Denied == 1 }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool {
		now, draining := b.d.Draining()
		return draining && now.Flows == 1
	}, time.Minute, time.Millisecond)
	require.Empty(t, b.over)

	_, err := b.d.Change(func(c *Config) error {
		c.NAT.Restrict = true
		return nil
	})
	require.ErrorContains(t, err, "take that back before forwards and rules change")
	_, err = b.d.Change(func(c *Config) error {
		c.Threads.Poll = time.Millisecond
		return nil
	})
	require.NoError(t, err, "what has nothing to do with it can change")

	ended, err := b.d.EndFlows(t.Context(), "10.0.2.16", new(nat.FlowFilter))
	require.NoError(t, err)
	require.Equal(t, 1, ended)
	b.requireOver()
}

func TestADrainIsTakenBackWhole(t *testing.T) {
	b := newDrained(t)
	before := b.d.Config()
	b.start(time.Hour)
	require.NoError(t, b.d.CancelDrain())
	_, draining := b.d.Draining()
	require.False(t, draining)
	require.True(t, b.listens())
	b.send(1000)
	b.send(2000)
	hears(t, b.service, 2)
	require.Equal(t, before, b.d.Config())
	require.ErrorIs(t, b.d.CancelDrain(), ErrNotDraining)
	b.d.endDrain()
	require.Empty(t, b.over, "nobody asks for the end any more")
	_, err := b.d.StartDrain(0, func() {})
	require.ErrorIs(t, err, errEnding)
}

func TestADrainGoesOnIfAForwardHasLostItsPlace(t *testing.T) {
	b := newDrained(t)
	b.start(0)
	other, err := net.Listen("tcp4", b.forward.String())
	require.NoError(t, err)
	require.ErrorContains(t, b.d.CancelDrain(), "has the port")
	_, draining := b.d.Draining()
	require.True(t, draining)
	b.send(2000)
	require.Eventually(t, func() bool { return countedBy(t, b.d.guests[1]).Denied == 1 }, time.Minute, time.Millisecond, "all of it goes on")
	require.NoError(t, other.Close())
	require.NoError(t, b.d.CancelDrain())
	require.True(t, b.listens())
}

func TestADrainEndsWithItsTime(t *testing.T) {
	b := newDrained(t)
	b.start(time.Hour)
	since, _ := b.d.Draining()
	b.start(time.Millisecond)
	b.requireOver()
	now, _ := b.d.Draining()
	require.Equal(t, since.Since, now.Since, "it goes on, with another end")
	b.d.endDrain()
	require.Empty(t, b.over, "it is asked for once")
}

func TestOnlyWhatIsBehindNATDrains(t *testing.T) {
	p, _ := program()
	d := open(t, stubs(filepath.Join(shortDir(t), "s")), p)
	defer func() { require.NoError(t, d.Close()) }()
	_, err := d.StartDrain(0, func() {})
	require.ErrorIs(t, err, ErrNoNAT)
}
