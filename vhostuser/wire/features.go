package wire

import (
	"fmt"
	"math/bits"
)

// FeatureProtocolFeatures is the virtio feature bit VHOST_USER_F_PROTOCOL_FEATURES. Acknowledging it means that rings
// start disabled, and wait for SET_VRING_ENABLE.
const FeatureProtocolFeatures uint64 = 1 << 30

// Protocol feature bits ("Protocol features"), as far as this project implements them.
const (
	ProtocolMQ         uint64 = 1 << 0 // several queue pairs: GET_QUEUE_NUM
	ProtocolLogSHMFD   uint64 = 1 << 1 // SET_LOG_BASE with a file, for live migration
	ProtocolRARP       uint64 = 1 << 2 // SEND_RARP
	ProtocolReplyAck   uint64 = 1 << 3 // NEED_REPLY
	ProtocolNetMTU     uint64 = 1 << 4 // NET_SET_MTU
	ProtocolBackendReq uint64 = 1 << 5 // SET_BACKEND_REQ_FD
	// ProtocolResetDevice brings RESET_DEVICE: the driver has reset its device.
	ProtocolResetDevice uint64 = 1 << 13
	// ProtocolConfigureMemSlots replaces SET_MEM_TABLE by messages for single regions, of which there may be more:
	// GET_MAX_MEM_SLOTS, ADD_MEM_REG and REM_MEM_REG.
	ProtocolConfigureMemSlots uint64 = 1 << 15
	// ProtocolGPAAddresses means that rings and regions are told by guest-physical addresses; where a region has a place
	// in the front end's own memory, its guest-physical address is repeated.
	ProtocolGPAAddresses uint64 = 1 << 21
)

// ProtocolNames returns the names of the protocol features in f, lowest bit first, without the prefix
// VHOST_USER_PROTOCOL_F_. A bit without a name gives "BIT_n".
func ProtocolNames(f uint64) []string {
	var names []string
	for f != 0 {
		bit := bits.TrailingZeros64(f)
		f &= f - 1
		names = append(names, protocolName(bit))
	}
	return names
}

func protocolName(bit int) string {
	switch uint64(1) << bit {
	case ProtocolMQ:
		return "MQ"
	case ProtocolLogSHMFD:
		return "LOG_SHMFD"
	case ProtocolRARP:
		return "RARP"
	case ProtocolReplyAck:
		return "REPLY_ACK"
	case ProtocolNetMTU:
		return "NET_MTU"
	case ProtocolBackendReq:
		return "BACKEND_REQ"
	case ProtocolResetDevice:
		return "RESET_DEVICE"
	case ProtocolConfigureMemSlots:
		return "CONFIGURE_MEM_SLOTS"
	case ProtocolGPAAddresses:
		return "GPA_ADDRESSES"
	}
	return fmt.Sprintf("BIT_%d", bit)
}
