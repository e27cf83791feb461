package tap_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// queues returns how many queues the kernel steers frames to, and how many are detached.
func queues(t *testing.T) (attached, detached int) {
	t.Helper()
	tuntap := link(t, name).(*netlink.Tuntap)
	return tuntap.Queues, tuntap.DisabledQueues
}

// requireQueues checks them.
func requireQueues(t *testing.T, wantAttached, wantDetached int) {
	t.Helper()
	attached, detached := queues(t)
	require.Equal(t, [2]int{wantAttached, wantDetached}, [2]int{attached, detached})
}

// makeTAP makes a persistent device, as an administrator does.
func makeTAP(t *testing.T, flags netlink.TuntapFlag) *netlink.Tuntap {
	t.Helper()
	made := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: flags | netlink.TUNTAP_NO_PI, Queues: 1,
	}
	require.NoError(t, netlink.LinkAdd(made))
	for _, f := range made.Fds {
		require.NoError(t, f.Close())
	}
	return made
}

func TestAQueueIsAttachedWhileItsReceiveRingRuns(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{Queues: 3})
	requireQueues(t, 0, 3)
	var guests []*porttest.Guest
	for i, p := range d.Ports() {
		guests = append(guests, porttest.New(t, p, porttest.Options{Features: modern}))
		requireQueues(t, i+1, 2-i)
	}
	require.True(t, carrier(t, name))
	for i, g := range guests {
		require.True(t, carrier(t, name), "as long as any is")
		require.Equal(t, 1, g.Sockets())
		g.Disconnect()
		require.Zero(t, g.Sockets(), "a detached queue would report an error for ever")
		requireQueues(t, 2-i, i+1)
	}
	require.False(t, carrier(t, name))
}

// The offloads are the device's: while two drivers disagree, it is what both take.
func TestOffloadsAreThoseThatAllQueuesTake(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{Queues: 2})
	plain := porttest.New(t, d.Ports()[0], porttest.Options{Features: modern})
	plain.Disconnect()
	both := porttest.New(t, d.Ports()[1], porttest.Options{Features: modern | allOffloads})
	both.MayBreakRules = true
	h := listen(t)
	header, b := large(10_000)
	h.send(header, b)
	requireFrame(t, b, receiveOne(both).Bytes)

	third := porttest.New(t, d.Ports()[0], porttest.Options{Features: modern})
	h.send(header, b)
	count := 0
	both.Until("the segments are there", func() bool {
		third.Settle()
		count += len(both.Frames()) + len(third.Frames())
		return count == 7
	})
}

func TestWhatIsCreatedGoesAwayAgain(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{Bridge: "br0", MTU: 9000})
	bridge := link(t, "br0")
	require.Equal(t, bridge.Attrs().Index, link(t, name).Attrs().MasterIndex)
	require.Equal(t, 9000, link(t, name).Attrs().MTU)
	require.Equal(t, 9000, d.MTU())
	require.EqualValues(t, 0xfe, link(t, name).Attrs().HardwareAddr[0], "a bridge takes the lowest address of its ports")
	require.NotZero(t, link(t, name).Attrs().Flags&net.FlagUp)
	require.NotZero(t, bridge.Attrs().Flags&net.FlagUp)

	second := open(t, tap.Config{Name: "tap1", Bridge: "br0"})
	require.NoError(t, d.Close())
	changes := d.Changes()
	require.NoError(t, changes.Undo())
	require.True(t, gone(name))
	require.False(t, gone("br0"), "another device uses it")
	require.NoError(t, second.Close())
	changes = second.Changes()
	require.NoError(t, changes.Undo())
	require.True(t, gone("br0"))
}

func TestWhatExistedIsLeftAsItWas(t *testing.T) {
	inNamespace(t)
	for _, name := range []string{"br0", "br1"} {
		require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
	}
	makeTAP(t, netlink.TUNTAP_MULTI_QUEUE)
	require.NoError(t, netlink.LinkSetMaster(link(t, name), link(t, "br1")))
	require.NoError(t, netlink.LinkSetMTU(link(t, name), 1400))
	before := link(t, name).Attrs()

	d := open(t, tap.Config{Bridge: "br0", MTU: 9000, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}})
	during := link(t, name).Attrs()
	require.Equal(t, link(t, "br0").Attrs().Index, during.MasterIndex)
	require.Equal(t, net.HardwareAddr{2, 0, 0, 0, 0, 7}, during.HardwareAddr)
	require.NoError(t, d.Close())
	changes := d.Changes()
	require.NoError(t, changes.Undo())
	after := link(t, name).Attrs()
	require.Equal(t, []any{before.MTU, before.HardwareAddr, before.MasterIndex, before.Flags},
		[]any{after.MTU, after.HardwareAddr, after.MasterIndex, after.Flags})
	require.False(t, gone("br0"))
	require.NoError(t, changes.Undo(), "once more is harmless")
}

// An administrator's device that was made for one queue cannot be detached.
func TestADeviceOfOneQueueServes(t *testing.T) {
	inNamespace(t)
	makeTAP(t, 0)
	_, err := tap.Open(tap.Config{Name: name, Queues: 2})
	require.ErrorContains(t, err, "multi_queue")
	d := open(t, tap.Config{})
	h := listen(t)
	for _, n := range []int{60_000, 50_000} {
		require.False(t, carrier(t, name))
		g := porttest.New(t, keepOpen{d.Ports()[0]}, porttest.Options{Features: modern | allOffloads})
		g.MayBreakRules = true
		require.True(t, carrier(t, name))
		header, b := large(n)
		h.send(header, b)
		requireFrame(t, b, receiveOne(g).Bytes)
		h.send(header, b)
		g.Disconnect() // the second frame is left in the device, and the next guest does not get it
	}
}

// keepOpen is a Port that is not closed with the guest.
type keepOpen struct{ *tap.Port }

func (keepOpen) Close() error { return nil }

func TestWhatCannotBeIsToldAtOnce(t *testing.T) {
	inNamespace(t)
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0"}, PeerName: "veth1"}))
	busy := open(t, tap.Config{Name: "busy"})
	_ = busy
	for want, cfg := range map[string]tap.Config{
		"TAP device without a name":                                {Queues: 1},
		`TAP device "a/b": not a name of an interface`:             {Name: "a/b", Queues: 1},
		`TAP device "tap%d": not a name`:                           {Name: "tap%d", Queues: 1},
		`"abcdefghijklmnop": a name has at most 15 bytes`:          {Name: name, Bridge: "abcdefghijklmnop", Queues: 1},
		"0 queues: want 1 to 256":                                  {Name: name},
		"MTU 67 is not between 68 and 65535":                       {Name: name, Queues: 1, MTU: 67},
		"01:00:5e:00:00:01 is not the address":                     {Name: name, Queues: 1, MAC: net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}},
		"veth0 is an interface already, of type veth and not a TA": {Name: "veth0", Queues: 1},
		"veth0 is an interface already, of type veth and not a br": {Name: name, Queues: 1, Bridge: "veth0"},
		"VLANs are those of a port of a bridge":                    {Name: name, Queues: 1, VLANs: tap.VLANs{Access: 9}},
		"VLAN 4095: want 1 to 4094":                                {Name: name, Queues: 1, Bridge: "br0", VLANs: tap.VLANs{Access: 4095}},
		"cannot be both the TAP device and the bridge":             {Name: name, Queues: 1, Bridge: name},
	} {
		_, err := tap.Open(cfg)
		require.ErrorContains(t, err, want)
		require.True(t, gone(name), "nothing is left behind")
	}
}

// What guests are offered is what the kernel takes.
func TestUSOIsOfferedWhereTheKernelHasIt(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	const uso = vnet.FeatureHostUSO | vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6
	offers := d.Ports()[0].Offers()
	require.Equal(t, allOffloads, offers&^uso)
	if offers&uso == 0 {
		t.Log("this kernel has no USO for TAP devices")
		return
	}
	require.Equal(t, uso, offers&uso)
	g, h := guestOn(t, d, porttest.Options{Features: modern | offers}), listen(t)
	header, b := datagrams(20_000)
	g.SendRaw(header, b)
	g.Settle()
	got, sent := h.receive()
	requireFrame(t, b, sent)
	require.EqualValues(t, vnet.GSOUDPL4, got.GSOType)
	h.send(header, b)
	back := receiveOne(g)
	requireFrame(t, b, back.Bytes)
	require.EqualValues(t, vnet.GSOUDPL4, back.Header.GSOType)
}

func TestVLANsAreRead(t *testing.T) {
	got, err := tap.ParseVLANs("20,30-39,4094")
	require.NoError(t, err)
	require.Equal(t, []tap.VLANRange{{First: 20, Last: 20}, {First: 30, Last: 39}, {First: 4094, Last: 4094}}, got)
	for _, wrong := range []string{"", "0", "4095", "9-8", "1-", "-1", "a", "1,,2", "1-2-3", "70000"} {
		_, err := tap.ParseVLANs(wrong)
		require.ErrorContains(t, err, "want numbers and ranges from 1 to 4094", wrong)
	}
}

// portVLANs returns the VLANs of the device, and which of them is that of frames without a tag.
func portVLANs(t *testing.T) (all []int, untagged int) {
	t.Helper()
	ports, err := netlink.BridgeVlanList()
	require.NoError(t, err)
	for _, v := range ports[int32(link(t, name).Attrs().Index)] {
		all = append(all, int(v.Vid))
		if v.PortVID() && v.EngressUntag() {
			untagged = int(v.Vid)
		}
	}
	return all, untagged
}

// On a kernel whose bridges know no VLANs, it is that which is to be told.
func TestVLANsOfAPort(t *testing.T) {
	inNamespace(t)
	vlans := tap.VLANs{Access: 10, Trunk: []tap.VLANRange{{First: 20, Last: 20}, {First: 30, Last: 32}}}
	cfg := tap.Config{Name: name, Queues: 1, Bridge: "br0", VLANs: vlans}
	d, err := tap.Open(cfg)
	if errors.Is(err, unix.EOPNOTSUPP) {
		require.ErrorContains(t, err, "the bridges of this kernel know no VLANs (CONFIG_BRIDGE_VLAN_FILTERING)")
		require.True(t, gone(name))
		return
	}
	require.NoError(t, err)
	all, untagged := portVLANs(t)
	require.Equal(t, []int{10, 20, 30, 31, 32}, all)
	require.Equal(t, 10, untagged)
	require.NoError(t, d.Close())
	changes := d.Changes()
	require.NoError(t, changes.Undo())
	require.True(t, gone("br0"))

	filtering := true
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}, VlanFiltering: &filtering}))
	makeTAP(t, netlink.TUNTAP_MULTI_QUEUE)
	require.NoError(t, netlink.LinkSetMaster(link(t, name), link(t, "br0")))
	d = open(t, tap.Config{Bridge: "br0", VLANs: tap.VLANs{Trunk: []tap.VLANRange{{First: 7, Last: 7}}}})
	all, untagged = portVLANs(t)
	require.Equal(t, []int{7}, all)
	require.Zero(t, untagged)
	require.NoError(t, d.Close())
	changes = d.Changes()
	require.NoError(t, changes.Undo())
	all, untagged = portVLANs(t)
	require.Equal(t, []int{1}, all, "as it was before")
	require.Equal(t, 1, untagged)
}

func TestABridgeThatDoesNotLookAtVLANsIsTold(t *testing.T) {
	inNamespace(t)
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	_, err := tap.Open(tap.Config{Name: name, Queues: 1, Bridge: "br0", VLANs: tap.VLANs{Access: 10}})
	require.ErrorContains(t, err, "As root: ip link set br0 type bridge vlan_filtering 1")
	require.True(t, gone(name))
}
