package ipaddr

import "net/netip"

// Network is a range of addresses with a common prefix. It is compared word by word: for a list of rules that is looked through
// for each new flow. Its zero value contains all addresses of both versions.
type Network struct{ prefix, mask [2]uint64 }

// NetworkFrom returns p as a Network. Bits of p's address behind its length do not count.
func NetworkFrom(p netip.Prefix) Network {
	a := From(p.Addr())
	return newNetwork(&a, p.Bits()+128-p.Addr().BitLen())
}

// NetworkOf returns the network of a's first bits bits, counted as its version of IP does: 0 to 32, or to 128.
func NetworkOf(a *Addr, bits int) Network {
	if a.Is4() {
		bits += 96 // the address is a mapped one
	}
	return newNetwork(a, bits)
}

func newNetwork(a *Addr, bits int) Network {
	n := Network{prefix: a.Words(), mask: mask(bits)}
	n.prefix[0] &= n.mask[0]
	n.prefix[1] &= n.mask[1]
	return n
}

// mask has its first bits bits set.
func mask(bits int) [2]uint64 {
	const all = ^uint64(0)
	if bits <= 64 {
		return [2]uint64{all << (64 - bits), 0}
	}
	return [2]uint64{all, all << (128 - bits)}
}

// Contains reports whether the address whose words these are is in n. Most addresses differ in their second word first, in
// which IPv4 has all of its own.
func (n *Network) Contains(words *[2]uint64) bool {
	return (words[1]^n.prefix[1])&n.mask[1] == 0 && (words[0]^n.prefix[0])&n.mask[0] == 0
}
