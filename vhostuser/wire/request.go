package wire

import "fmt"

// Request is the number of a message from the front end ("Front-end message types").
type Request uint32

// The messages that this package can decode. All others are unknown to it.
const (
	GetFeatures         Request = 1
	SetFeatures         Request = 2
	SetOwner            Request = 3
	ResetOwner          Request = 4
	SetMemTable         Request = 5
	SetLogBase          Request = 6
	SetLogFD            Request = 7
	SetVringNum         Request = 8
	SetVringAddr        Request = 9
	SetVringBase        Request = 10
	GetVringBase        Request = 11
	SetVringKick        Request = 12
	SetVringCall        Request = 13
	SetVringErr         Request = 14
	GetProtocolFeatures Request = 15
	SetProtocolFeatures Request = 16
	GetQueueNum         Request = 17
	SetVringEnable      Request = 18
	SendRARP            Request = 19
	NetSetMTU           Request = 20
	SetBackendReqFD     Request = 21
	ResetDevice         Request = 34
	GetMaxMemSlots      Request = 36
	AddMemReg           Request = 37
	RemMemReg           Request = 38
)

// String returns the name that the specification gives the message, without its prefix VHOST_USER_.
func (r Request) String() string {
	if l, ok := layoutOf(r); ok {
		return l.name
	}
	return fmt.Sprintf("message %d", uint32(r))
}

// HasReply tells whether the message is answered with data of its own, so that NEED_REPLY means nothing on it.
func (r Request) HasReply() bool {
	l, _ := layoutOf(r)
	return l.reply
}

// shape is the form of a payload.
type shape uint8

const (
	shapeNone   shape = iota // no payload
	shapeU64                 // a 64-bit number
	shapeState               // ring index and a number, 32 bits each
	shapeAddr                // addresses of a ring
	shapeRingFD              // ring index and NOFD flag in a 64-bit number
	shapeMem                 // memory regions
	shapeRegion              // one memory region, behind 64 bits of padding
	shapeLog                 // size and offset of the dirty log
)

// layout is what is fixed about a message.
type layout struct {
	name  string
	shape shape
	fds   int  // descriptors that must come with it; those of shapeRingFD and shapeMem depend on the payload
	spare int  // descriptors that may come beside them, and mean nothing
	reply bool // answered with data of its own
}

func layoutOf(r Request) (layout, bool) {
	switch r {
	case GetFeatures:
		return layout{name: "GET_FEATURES", reply: true}, true
	case SetFeatures:
		return layout{name: "SET_FEATURES", shape: shapeU64}, true
	case SetOwner:
		return layout{name: "SET_OWNER"}, true
	case ResetOwner:
		return layout{name: "RESET_OWNER"}, true
	case SetMemTable:
		return layout{name: "SET_MEM_TABLE", shape: shapeMem}, true
	case SetLogBase:
		return layout{name: "SET_LOG_BASE", shape: shapeLog, fds: 1, reply: true}, true
	case SetLogFD:
		return layout{name: "SET_LOG_FD", fds: 1}, true
	case SetVringNum:
		return layout{name: "SET_VRING_NUM", shape: shapeState}, true
	case SetVringAddr:
		return layout{name: "SET_VRING_ADDR", shape: shapeAddr}, true
	case SetVringBase:
		return layout{name: "SET_VRING_BASE", shape: shapeState}, true
	case GetVringBase:
		return layout{name: "GET_VRING_BASE", shape: shapeState, reply: true}, true
	case SetVringKick:
		return layout{name: "SET_VRING_KICK", shape: shapeRingFD}, true
	case SetVringCall:
		return layout{name: "SET_VRING_CALL", shape: shapeRingFD}, true
	case SetVringErr:
		return layout{name: "SET_VRING_ERR", shape: shapeRingFD}, true
	case GetProtocolFeatures:
		return layout{name: "GET_PROTOCOL_FEATURES", reply: true}, true
	case SetProtocolFeatures:
		return layout{name: "SET_PROTOCOL_FEATURES", shape: shapeU64}, true
	case GetQueueNum:
		return layout{name: "GET_QUEUE_NUM", reply: true}, true
	case SetVringEnable:
		return layout{name: "SET_VRING_ENABLE", shape: shapeState}, true
	case SendRARP:
		return layout{name: "SEND_RARP", shape: shapeU64}, true
	case NetSetMTU:
		return layout{name: "NET_SET_MTU", shape: shapeU64}, true
	case SetBackendReqFD:
		return layout{name: "SET_BACKEND_REQ_FD", fds: 1}, true
	case ResetDevice:
		return layout{name: "RESET_DEVICE"}, true
	case GetMaxMemSlots:
		return layout{name: "GET_MAX_MEM_SLOTS", reply: true}, true
	case AddMemReg:
		return layout{name: "ADD_MEM_REG", shape: shapeRegion, fds: 1}, true
	case RemMemReg:
		return layout{name: "REM_MEM_REG", shape: shapeRegion, spare: 1}, true
	}
	return layout{}, false
}
