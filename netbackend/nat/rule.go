package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// filters are rules as they are matched: one after the other, without a pointer to follow, for each new flow.
type filters []filter

// filter is one rule. Addresses are 16 bytes long, IPv4 mapped, so that there is one way only to write each of them.
type filter struct {
	network, mask [2]uint64
	first, last   uint16
	proto         uint8 // 0 for all
	is4           bool
	allow         bool
	linkLocal     bool // the network is a link-local one
}

func newFilters(rules []spec.Rule) filters {
	list := make(filters, 0, len(rules))
	for _, r := range rules {
		network := ipaddr.From(r.Prefix.Addr())
		f := filter{
			network: network.Words(), mask: maskWords(r.Prefix.Bits() + 128 - r.Prefix.Addr().BitLen()),
			first: r.First, last: r.Last, proto: r.Proto, is4: r.Prefix.Addr().Is4(), allow: r.Allow,
			linkLocal: NamesLinkLocal(r),
		}
		if f.first == 0 && f.last == 0 {
			f.last = 65535
		}
		f.network[0] &= f.mask[0]
		f.network[1] &= f.mask[1]
		list = append(list, f)
	}
	return list
}

// maskWords has its first bits bits set.
func maskWords(bits int) [2]uint64 {
	const all = ^uint64(0)
	if bits <= 64 {
		return [2]uint64{all << (64 - bits), 0}
	}
	return [2]uint64{all, all << (128 - bits)}
}

// match returns the first rule that speaks of a destination, nil if none does. To open link-local addresses takes a
// rule that names nothing else: who opens everything hardly means the cloud's credentials.
func (l filters) match(proto uint8, to *ipaddr.Endpoint, linkLocal bool) *filter {
	at, is4 := to.Addr.Words(), to.Addr.Is4()
	for i := range l {
		f := &l[i]
		if (at[1]^f.network[1])&f.mask[1] != 0 || (at[0]^f.network[0])&f.mask[0] != 0 {
			continue
		}
		if is4 != f.is4 || to.Port < f.first || to.Port > f.last || f.proto != 0 && f.proto != proto {
			continue
		}
		if f.allow && linkLocal && !f.linkLocal {
			continue
		}
		return f
	}
	return nil
}
