package vnet

import (
	"math/bits"
	"strconv"
)

// Feature bits of a network device (virtio 1.2 section 5.1.3). "Guest" features are what the driver accepts from us,
// "Host" features what we accept from the driver.
const (
	FeatureCSum              uint64 = 1 << 0  // we complete partial checksums of the guest's frames
	FeatureGuestCSum         uint64 = 1 << 1  // the guest takes frames with partial checksums
	FeatureCtrlGuestOffloads uint64 = 1 << 2  // offloads can be changed through the control queue
	FeatureMTU               uint64 = 1 << 3  // the maximum MTU is in the configuration
	FeatureMAC               uint64 = 1 << 5  // the MAC address is in the configuration
	FeatureGSO               uint64 = 1 << 6  // legacy: any kind of segmentation offload
	FeatureGuestTSO4         uint64 = 1 << 7  // the guest takes TCP over IPv4 in frames beyond the MTU
	FeatureGuestTSO6         uint64 = 1 << 8  // the same over IPv6
	FeatureGuestECN          uint64 = 1 << 9  // the same with ECN
	FeatureGuestUFO          uint64 = 1 << 10 // the guest takes UDP datagrams that are to be fragmented
	FeatureHostTSO4          uint64 = 1 << 11 // we take TCP over IPv4 in frames beyond the MTU
	FeatureHostTSO6          uint64 = 1 << 12 // the same over IPv6
	FeatureHostECN           uint64 = 1 << 13 // the same with ECN
	FeatureHostUFO           uint64 = 1 << 14 // we take UDP datagrams that are to be fragmented
	FeatureMrgRxBuf          uint64 = 1 << 15 // a frame may spread over several receive chains
	FeatureStatus            uint64 = 1 << 16 // the link status is in the configuration
	FeatureCtrlVQ            uint64 = 1 << 17 // there is a control queue
	FeatureCtrlRx            uint64 = 1 << 18 // receive modes can be set
	FeatureCtrlVLAN          uint64 = 1 << 19 // VLANs can be filtered
	FeatureCtrlRxExtra       uint64 = 1 << 20 // more receive modes can be set
	FeatureGuestAnnounce     uint64 = 1 << 21 // the guest can announce itself
	FeatureMQ                uint64 = 1 << 22 // there are several queue pairs
	FeatureCtrlMACAddr       uint64 = 1 << 23 // the MAC address can be set through the control queue
	FeatureGuestUSO4         uint64 = 1 << 54 // the guest takes runs of UDP datagrams over IPv4
	FeatureGuestUSO6         uint64 = 1 << 55 // the same over IPv6
	FeatureHostUSO           uint64 = 1 << 56 // we take runs of UDP datagrams
	FeatureHashReport        uint64 = 1 << 57 // the header has a hash
	FeatureGuestHdrLen       uint64 = 1 << 59 // the driver gives the exact header length
	FeatureRSS               uint64 = 1 << 60 // receive-side scaling
	FeatureRSCExt            uint64 = 1 << 61 // the header counts coalesced segments
	FeatureStandby           uint64 = 1 << 62 // the device stands by for another one
	FeatureSpeedDuplex       uint64 = 1 << 63 // speed and duplex are in the configuration
)

// Feature bits of every device (virtio 1.2 section 6), and those that vhost-user borrows.
const (
	FeatureNotifyOnEmpty    uint64 = 1 << 24 // legacy: interrupt when the ring runs empty
	FeatureLogAll           uint64 = 1 << 26 // VHOST_F_LOG_ALL: log written pages; never shown to the guest
	FeatureAnyLayout        uint64 = 1 << 27 // the header may be split from, or joined with, the data
	FeatureIndirectDesc     uint64 = 1 << 28 // indirect descriptor tables
	FeatureEventIdx         uint64 = 1 << 29 // notification by index
	FeatureProtocolFeatures uint64 = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES; never shown to the guest
	FeatureVersion1         uint64 = 1 << 32 // not a legacy device
	FeatureAccessPlatform   uint64 = 1 << 33 // addresses are I/O virtual
	FeatureRingPacked       uint64 = 1 << 34 // packed virtqueues
	FeatureInOrder          uint64 = 1 << 35 // buffers are used in order
	FeatureOrderPlatform    uint64 = 1 << 36 // memory is ordered as for a real device
	FeatureSRIOV            uint64 = 1 << 37 // single-root I/O virtualization
	FeatureNotificationData uint64 = 1 << 38 // kicks carry data
	FeatureNotifConfigData  uint64 = 1 << 39 // kicks carry data of the device's choice
	FeatureRingReset        uint64 = 1 << 40 // single queues can be reset
)

// FeatureNames returns the names of the bits set in f as the specification writes them, without VIRTIO_NET_F_ and the
// like, lowest bit first: "CSUM", "MRG_RXBUF". A bit without a name is "BIT_25".
func FeatureNames(f uint64) []string {
	names := make([]string, 0, bits.OnesCount64(f))
	for ; f != 0; f &= f - 1 {
		names = append(names, featureName(f&-f))
	}
	return names
}

func featureName(bit uint64) string {
	switch bit {
	case FeatureCSum:
		return "CSUM"
	case FeatureGuestCSum:
		return "GUEST_CSUM"
	case FeatureCtrlGuestOffloads:
		return "CTRL_GUEST_OFFLOADS"
	case FeatureMTU:
		return "MTU"
	case FeatureMAC:
		return "MAC"
	case FeatureGSO:
		return "GSO"
	case FeatureGuestTSO4:
		return "GUEST_TSO4"
	case FeatureGuestTSO6:
		return "GUEST_TSO6"
	case FeatureGuestECN:
		return "GUEST_ECN"
	case FeatureGuestUFO:
		return "GUEST_UFO"
	case FeatureHostTSO4:
		return "HOST_TSO4"
	case FeatureHostTSO6:
		return "HOST_TSO6"
	case FeatureHostECN:
		return "HOST_ECN"
	case FeatureHostUFO:
		return "HOST_UFO"
	case FeatureMrgRxBuf:
		return "MRG_RXBUF"
	case FeatureStatus:
		return "STATUS"
	case FeatureCtrlVQ:
		return "CTRL_VQ"
	case FeatureCtrlRx:
		return "CTRL_RX"
	case FeatureCtrlVLAN:
		return "CTRL_VLAN"
	case FeatureCtrlRxExtra:
		return "CTRL_RX_EXTRA"
	case FeatureGuestAnnounce:
		return "GUEST_ANNOUNCE"
	case FeatureMQ:
		return "MQ"
	case FeatureCtrlMACAddr:
		return "CTRL_MAC_ADDR"
	case FeatureGuestUSO4:
		return "GUEST_USO4"
	case FeatureGuestUSO6:
		return "GUEST_USO6"
	case FeatureHostUSO:
		return "HOST_USO"
	case FeatureHashReport:
		return "HASH_REPORT"
	case FeatureGuestHdrLen:
		return "GUEST_HDRLEN"
	case FeatureRSS:
		return "RSS"
	case FeatureRSCExt:
		return "RSC_EXT"
	case FeatureStandby:
		return "STANDBY"
	case FeatureSpeedDuplex:
		return "SPEED_DUPLEX"
	}
	return ringFeatureName(bit)
}

func ringFeatureName(bit uint64) string {
	switch bit {
	case FeatureNotifyOnEmpty:
		return "NOTIFY_ON_EMPTY"
	case FeatureLogAll:
		return "LOG_ALL"
	case FeatureAnyLayout:
		return "ANY_LAYOUT"
	case FeatureIndirectDesc:
		return "INDIRECT_DESC"
	case FeatureEventIdx:
		return "EVENT_IDX"
	case FeatureProtocolFeatures:
		return "PROTOCOL_FEATURES"
	case FeatureVersion1:
		return "VERSION_1"
	case FeatureAccessPlatform:
		return "ACCESS_PLATFORM"
	case FeatureRingPacked:
		return "RING_PACKED"
	case FeatureInOrder:
		return "IN_ORDER"
	case FeatureOrderPlatform:
		return "ORDER_PLATFORM"
	case FeatureSRIOV:
		return "SR_IOV"
	case FeatureNotificationData:
		return "NOTIFICATION_DATA"
	case FeatureNotifConfigData:
		return "NOTIF_CONFIG_DATA"
	case FeatureRingReset:
		return "RING_RESET"
	}
	return "BIT_" + strconv.Itoa(bits.TrailingZeros64(bit))
}
