package l2switch

const (
	// tagLen is the length of a tag of IEEE 802.1Q.
	tagLen       = 4
	etherTypeTag = 0x8100
	vidMask      = 0x0fff // of a tag
	// defaultVLAN is that of a Port of which nothing was said.
	defaultVLAN = 1
)

// setVLANs takes the VLANs of a Port from its configuration.
func (p *Port) setVLANs(cfg *PortConfig) {
	p.vlan = cfg.VLAN
	if p.vlan == 0 && len(cfg.Tagged) == 0 {
		p.vlan = defaultVLAN
	}
	for _, vid := range cfg.Tagged {
		p.tagged[vid/64] |= 1 << (vid % 64)
	}
}

// carriesTag reports whether frames with a tag of vid pass.
func (p *Port) carriesTag(vid uint16) bool { return p.tagged[vid/64]>>(vid%64)&1 != 0 }

// carries reports whether frames of a VLAN go to this Port.
func (p *Port) carries(vid uint16) bool { return vid == p.vlan || p.carriesTag(vid) }

// ingress returns the VLAN of a frame of the guest, 0 for none that its Port carries. A tag without a VLAN has a priority only.
func (p *Port) ingress(f *frame) uint16 {
	if !f.hasTag {
		return p.vlan
	}
	vid := f.tag & vidMask
	switch {
	case vid == 0:
		return p.vlan
	case vid == p.vlan || vid <= MaxVLAN && p.carriesTag(vid):
		return vid
	}
	return 0
}
