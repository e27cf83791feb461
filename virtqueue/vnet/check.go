package vnet

import "strconv"

// HeaderError is what is wrong with a header. As an error it costs no allocation.
type HeaderError uint8

const (
	ErrShortFrame   HeaderError = iota + 1 // the frame has no Ethernet header
	ErrCSumFeature                         // a partial checksum without feature CSUM
	ErrCSumRange                           // the checksum lies outside of the frame
	ErrGSOType                             // a GSO type that does not exist
	ErrGSOFeature                          // a GSO type whose feature was not acknowledged
	ErrGSOSize                             // segments of no bytes
	ErrGSOCSum                             // segmentation without a partial checksum, or with that of another protocol
	ErrGSOEtherType                        // segmentation of another IP version than the frame's
)

func (e HeaderError) Error() string {
	switch e {
	case ErrShortFrame:
		return "virtio-net header: frame is shorter than an Ethernet header"
	case ErrCSumFeature:
		return "virtio-net header: checksum offload was not negotiated"
	case ErrCSumRange:
		return "virtio-net header: checksum lies outside of the frame"
	case ErrGSOType:
		return "virtio-net header: unknown GSO type"
	case ErrGSOFeature:
		return "virtio-net header: GSO type was not negotiated"
	case ErrGSOSize:
		return "virtio-net header: GSO size is 0"
	case ErrGSOCSum:
		return "virtio-net header: GSO without the checksum offload of its protocol"
	case ErrGSOEtherType:
		return "virtio-net header: GSO type does not fit the frame's protocol"
	}
	return "virtio-net header: error " + strconv.Itoa(int(e))
}

// EthernetHeaderLen is the size of an Ethernet header without VLAN tags.
const EthernetHeaderLen = 14

// Ethernet types of the IP versions.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeIPv6 = 0x86dd
)

// Where a transport header has its checksum.
const (
	tcpCsumOffset = 16
	udpCsumOffset = 6
)

// Plain tells that h asks for no offload: Check then has nothing to say about a frame that is as long as an Ethernet
// header, whatever the features.
func (h *Header) Plain() bool { return h.Flags&FlagNeedsCSum == 0 && h.GSOType == GSONone }

// PlainWords is [Header.Plain] and [Header.Clean] for those who have the first 8 bytes of a header as a word, see
// [Header.Words]. It returns the first word of the clean header, whose rest is 0.
//
// A header that is decoded field by field and then read as a whole costs more than the fields do: the processor cannot
// forward several stores to one load, and waits until the guest's cache line has come, header after header.
func PlainWords(first uint64, frameLen int) (clean uint64, ok bool) {
	clean = first & hdrLenBits
	if clean>>16 > uint64(frameLen) {
		clean = 0
	}
	return clean, first&offloadBits == 0
}

// Parts of the first word of a header.
const (
	offloadBits = FlagNeedsCSum | 0xff<<8 // what Plain looks at
	hdrLenBits  = 0xffff << 16
)

// Check validates the header of a frame from the guest, frameLen bytes long without the header, against the
// acknowledged features (virtio 1.2 section 5.1.6.2.1). What it does not look at is ignored by [Header.Clean]: flags and
// fields that are to the guest only, and HdrLen, which drivers get wrong. It returns a [HeaderError].
func (h *Header) Check(frameLen int, features uint64) error {
	if frameLen < EthernetHeaderLen {
		return ErrShortFrame
	}
	if err := h.checkCSum(frameLen, features); err != nil {
		return err
	}
	if h.GSOType == GSONone {
		return nil
	}
	return h.checkGSO(features)
}

func (h *Header) checkCSum(frameLen int, features uint64) error {
	if h.Flags&FlagNeedsCSum == 0 {
		return nil
	}
	if features&FeatureCSum == 0 {
		return ErrCSumFeature
	}
	if int(h.CsumStart)+int(h.CsumOffset)+2 > frameLen {
		return ErrCSumRange
	}
	return nil
}

func (h *Header) checkGSO(features uint64) error {
	var need uint64
	offset := uint16(tcpCsumOffset)
	switch h.GSOType &^ GSOECN {
	case GSOTCPv4:
		need = FeatureHostTSO4
	case GSOTCPv6:
		need = FeatureHostTSO6
	case GSOUDP:
		need, offset = FeatureHostUFO, udpCsumOffset
	case GSOUDPL4:
		need, offset = FeatureHostUSO, udpCsumOffset
	default:
		return ErrGSOType
	}
	if h.GSOType&GSOECN != 0 {
		if offset != tcpCsumOffset {
			return ErrGSOType
		}
		need |= FeatureHostECN
	}
	switch {
	case features&need != need:
		return ErrGSOFeature
	case h.GSOSize == 0:
		return ErrGSOSize
	case h.Flags&FlagNeedsCSum == 0 || h.CsumOffset != offset:
		return ErrGSOCSum
	}
	return nil
}

// AcceptedBy reports whether a guest that acknowledged features takes a frame with header h. Of USO the header does not tell which version of
// IP the frame is, so both are needed.
func (h *Header) AcceptedBy(features uint64) bool {
	var need uint64
	if h.Flags&FlagNeedsCSum != 0 {
		need |= FeatureGuestCSum
	}
	if h.GSOType&GSOECN != 0 {
		need |= FeatureGuestECN
	}
	switch h.GSOType &^ GSOECN {
	case GSONone:
	case GSOTCPv4:
		need |= FeatureGuestTSO4
	case GSOTCPv6:
		need |= FeatureGuestTSO6
	case GSOUDPL4:
		need |= FeatureGuestUSO4 | FeatureGuestUSO6
	default:
		return false
	}
	return features&need == need
}

// CheckEtherType checks that segmentation fits the frame's protocol, behind VLAN tags. It returns a [HeaderError].
func (h *Header) CheckEtherType(etherType uint16) error {
	ok := true
	switch h.GSOType &^ GSOECN {
	case GSOTCPv4:
		ok = etherType == EtherTypeIPv4
	case GSOTCPv6:
		ok = etherType == EtherTypeIPv6
	case GSOUDP, GSOUDPL4:
		ok = etherType == EtherTypeIPv4 || etherType == EtherTypeIPv6
	}
	if !ok {
		return ErrGSOEtherType
	}
	return nil
}

// Clean clears what means nothing in a header from the guest that passed Check, so that it can be handed on: a TAP
// refuses frames over fields that the specification tells us to ignore.
func (h *Header) Clean(frameLen int) {
	h.Flags &= FlagNeedsCSum
	h.NumBuffers = 0
	if h.Flags == 0 {
		h.CsumStart, h.CsumOffset = 0, 0
	}
	if h.GSOType == GSONone {
		h.GSOSize = 0
	}
	if int(h.HdrLen) > frameLen {
		h.HdrLen = 0
	}
}
