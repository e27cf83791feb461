package tap_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/tap"
)

// withoutRights takes CAP_NET_ADMIN from the thread of the test, for the rest of its life.
func withoutRights(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	require.NoError(t, unix.Capset(&header, &data[0]))
}

// ownTAP makes a persistent device of a user, up.
func ownTAP(t *testing.T, owner uint32) {
	t.Helper()
	require.NoError(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	made := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Owner: owner, Queues: 1,
		Flags: netlink.TUNTAP_MULTI_QUEUE | netlink.TUNTAP_NO_PI,
	}
	require.NoError(t, netlink.LinkAdd(made))
	require.NoError(t, made.Fds[0].Close())
	require.NoError(t, netlink.LinkSetUp(link(t, name)))
}

// A user may do all that is left to do when an administrator has made the device for him.
func TestNoRightsAreNeededForADeviceOfOnesOwn(t *testing.T) {
	inNamespace(t)
	ownTAP(t, 0)
	require.NoError(t, netlink.LinkSetMaster(link(t, name), link(t, "br0")))
	h := listen(t)
	withoutRights(t)
	d := open(t, tap.Config{Bridge: "br0", MTU: 1500, Queues: 2})
	g := guestOn(t, d, porttest.Options{Features: modern | allOffloads})
	header, b := large(50_000)
	g.SendRaw(header, b)
	g.Settle()
	_, got := h.receive()
	requireFrame(t, b, got)
	changes := d.Changes()
	require.NoError(t, changes.Undo())
}

func TestMissingRightsAreNamedWithTheirRemedy(t *testing.T) {
	const nobody = 65534
	for lack, c := range map[string]struct {
		owner  int // of a device that is there, -1 for none
		cfg    tap.Config
		remedy string
	}{
		"CAP_NET_ADMIN is missing to create TAP device tap0": {
			-1, tap.Config{MTU: 9000, Bridge: "br0"},
			"ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user 0; ip link set tap0 up mtu 9000 master br0",
		},
		"TAP device tap0 belongs to user 65534, and this is user 0": {
			nobody, tap.Config{},
			"ip tuntap del dev tap0 mode tap; ip tuntap add dev tap0 mode tap multi_queue vnet_hdr user 0; ip link set tap0 up",
		},
		"CAP_NET_ADMIN is missing to set up tap0": {0, tap.Config{Bridge: "br0"}, "ip link set tap0 master br0"},
	} {
		t.Run(lack, func(t *testing.T) {
			inNamespace(t)
			if c.owner >= 0 {
				ownTAP(t, uint32(c.owner))
			}
			withoutRights(t)
			c.cfg.Name, c.cfg.Queues = name, 1
			_, err := tap.Open(c.cfg)
			rights := new(tap.RightsError)
			require.ErrorAs(t, err, &rights)
			require.Equal(t, []string{lack, c.remedy}, []string{rights.Lack, rights.Remedy})
			require.ErrorIs(t, err, unix.EPERM)
			require.ErrorContains(t, err, fmt.Sprintf("%s (%v). Once, as root: %s", lack, rights.Err, c.remedy))
		})
	}
}

func TestADeviceOfAnotherProcessIsNotTaken(t *testing.T) {
	inNamespace(t)
	makeTAP(t, 0)
	open(t, tap.Config{})
	_, err := tap.Open(tap.Config{Name: name, Queues: 1})
	require.ErrorIs(t, err, unix.EBUSY)
	require.ErrorContains(t, err, "TAP device tap0 is used by another process")
	require.False(t, errors.As(err, new(*tap.RightsError)))
}
