package tap

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Offloads in the two languages. Towards the kernel nothing need be switched on: a TAP device takes any header that
// makes sense. What it leaves undone towards us is set by TUNSETOFFLOAD.
const (
	// hostFeatures are the offloads that the guest may use on frames to us, on any kernel; hostUSO where the kernel
	// knows it.
	hostFeatures = vnet.FeatureCSum | vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureHostECN
	hostUSO      = vnet.FeatureHostUSO
	// guestFeatures and guestUSO are the same for frames to the guest.
	guestFeatures = vnet.FeatureGuestCSum | vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureGuestECN
	guestUSO      = vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6

	// largeOffloads make frames longer than the MTU.
	largeOffloads = unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | usoOffloads
	// usoOffloads go together: the kernel does not tell the IP versions apart.
	usoOffloads = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// offered returns what can be offered to a guest on this kernel.
func offered(uso bool) uint64 {
	if uso {
		return hostFeatures | guestFeatures | hostUSO | guestUSO
	}
	return hostFeatures | guestFeatures
}

// offloadsOf translates what a guest acknowledged to the argument of TUNSETOFFLOAD, which the kernel refuses unless it
// is consistent: no segmentation without checksums, and no ECN without TCP segmentation.
func offloadsOf(features uint64) int {
	if features&vnet.FeatureGuestCSum == 0 {
		return 0
	}
	offloads := unix.TUN_F_CSUM
	if features&vnet.FeatureGuestTSO4 != 0 {
		offloads |= unix.TUN_F_TSO4
	}
	if features&vnet.FeatureGuestTSO6 != 0 {
		offloads |= unix.TUN_F_TSO6
	}
	if offloads != unix.TUN_F_CSUM && features&vnet.FeatureGuestECN != 0 {
		offloads |= unix.TUN_F_TSO_ECN
	}
	if features&guestUSO == guestUSO {
		offloads |= usoOffloads
	}
	return offloads
}
