package tap_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// soon is the limit for what takes the kernel a moment.
const soon = 2 * time.Minute

// notices gathers what a watcher tells.
type notices struct {
	mu   sync.Mutex
	told []string
}

func (n *notices) tell(notice netbackend.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = append(n.told, notice.Message)
}

func (n *notices) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.told...)
}

// watch watches a device until the end of the test.
func watch(t *testing.T, d *tap.Device) *notices {
	t.Helper()
	n, done := &notices{}, make(chan struct{})
	require.NoError(t, d.Watch(done, n.tell))
	t.Cleanup(func() { close(done) })
	return n
}

// eventually waits for what the kernel does in its own time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !cond(); time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), what)
	}
}

func TestTheBridgeThatGoesAwayIsToldOnce(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{Bridge: "br0"})
	n := watch(t, d)
	require.NoError(t, netlink.LinkDel(link(t, "br0")))
	eventually(t, "it is told", func() bool { return len(n.all()) == 1 })
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	require.NoError(t, netlink.LinkSetMaster(link(t, name), link(t, "br0")))
	eventually(t, "it is told", func() bool { return len(n.all()) == 2 })
	require.Equal(t, []string{
		"the TAP device is not a port of its bridge any more", "the TAP device is a port of a bridge",
	}, n.all())
}

func TestAnMTUThatOthersSetIsTakenOver(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	n := watch(t, d)
	g, h := guestOn(t, d, porttest.Options{Features: modern}), listen(t)
	require.NoError(t, netlink.LinkSetMTU(link(t, name), 9000))
	eventually(t, "it is taken over, and told", func() bool { return d.MTU() == 9000 && len(n.all()) > 0 })
	h.send(vnet.Header{}, frame(9014))
	requireFrame(t, frame(9014), receiveOne(g).Bytes)
	require.Zero(t, d.Ports()[0].Counters().Respilled, "so long a frame was expected")
	require.Equal(t, []string{"the TAP device has another MTU now"}, n.all())
}

func TestADeviceIsLostWithoutAGuest(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	watch(t, d)
	require.NoError(t, netlink.LinkDel(link(t, name)))
	select {
	case err := <-d.Lost():
		require.ErrorContains(t, err, "TAP device tap0 is lost: it was deleted")
	case <-time.After(soon):
		t.Fatal("nobody has noticed")
	}
}

// administrator is one that has the rights of the test. Its calls come from the test's own thread.
type administrator struct {
	config  tap.Config
	changes tap.Changes
}

func (a *administrator) SetMTU(_ string, mtu int) error { return a.config.SetMTU(mtu) }

func (a *administrator) Connect(string) (err error) {
	a.changes, err = a.config.Connect()
	return err
}

// The device's MTU is the guest's while it is there.
func TestTheDeviceTakesTheGuestsMTU(t *testing.T) {
	inNamespace(t)
	cfg := tap.Config{Name: name, Queues: 1, MTU: 9000}
	d := open(t, cfg)
	d.Administrate(&administrator{config: cfg})
	g := guestOn(t, d, porttest.Options{Features: modern})
	p := d.Ports()[0]
	for _, mtu := range []int{1400, 8000, 9000, 1280} {
		require.NoError(t, p.SetMTU(mtu))
		p.RingsChanged(netbackend.RingState{MTU: mtu}) // as when a session begins with it
		require.Equal(t, mtu, link(t, name).Attrs().MTU)
		require.Equal(t, mtu, d.MTU())
	}
	require.ErrorContains(t, p.SetMTU(9001), "an MTU of 9000 at most: start with --mtu 9001")
	g.Disconnect()
	require.Equal(t, 9000, link(t, name).Attrs().MTU)
}

func TestWithoutAnAdministratorTheMTUStays(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g := guestOn(t, d, porttest.Options{Features: modern})
	p := d.Ports()[0]
	require.ErrorContains(t, p.SetMTU(1501), "as root, ip link set tap0 mtu 1501")
	require.NoError(t, p.SetMTU(1500))
	require.Empty(t, g.Notices())
	require.NoError(t, p.SetMTU(1400), "the guest can be served")
	require.Len(t, g.Notices(), 1)
}

func TestADeviceThatComesBackIsConnectedAgain(t *testing.T) {
	inNamespace(t)
	cfg := tap.Config{Name: name, Queues: 1, Bridge: "br0", MTU: 4000, Reopen: true}
	d := open(t, cfg)
	d.Administrate(&administrator{config: cfg})
	g := guestOn(t, d, porttest.Options{Features: modern})
	require.NoError(t, netlink.LinkDel(link(t, name)))
	g.Run(2 * time.Second)
	makeTAP(t, 0) // of one queue this time
	g.Run(2 * time.Second)
	require.Equal(t, link(t, "br0").Attrs().Index, link(t, name).Attrs().MasterIndex)
	require.Equal(t, 4000, d.MTU())
	h := listen(t)
	g.SendFrame(frame(60))
	g.Settle()
	_, got := h.receive()
	requireFrame(t, frame(60), got)
}
