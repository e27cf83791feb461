package porttest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue/vnet"
)

func TestFragmentsBecomeADatagramAgain(t *testing.T) {
	p := newPair(t, Options{})
	d := Datagram{
		Src: netip.AddrPortFrom(p.a.IP, 1000), Dst: netip.AddrPortFrom(p.b.IP, 2000), Payload: data(4000),
	}
	for _, f := range d.Cut(7, 1480) {
		p.a.SendFragment(f)
	}
	var got []*Datagram
	p.run(t, func() bool { got = append(got, p.b.Datagrams()...); return len(got) > 0 })
	require.Equal(t, d, *got[0])
}

func TestFragmentsBecomeAnICMPMessageAgain(t *testing.T) {
	p := newPair(t, Options{})
	m := ICMP{Type: 8, Rest: 7, Payload: data(4000)}
	for _, f := range p.a.CutICMP(p.b.IP, m, 7, 1480) {
		p.a.SendFragment(f)
	}
	var got *ICMP
	p.run(t, func() bool {
		for _, f := range p.b.Frames() {
			if f.ICMP != nil {
				got = f.ICMP
			}
		}
		return got != nil
	})
	require.Equal(t, m, *got)
}

func TestBadFragmentsAreRecognized(t *testing.T) {
	src, dst := netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("10.0.2.15")
	d := Datagram{Src: netip.AddrPortFrom(src, 1000), Dst: netip.AddrPortFrom(dst, 2000), Payload: data(3000)}
	for _, c := range []struct {
		name  string
		spoil func(f []Fragment)
		want  string
	}{
		{"none", func([]Fragment) {}, ""},
		{"a hole", func(f []Fragment) { f[1].Offset += 8 }, "fragment at 1488 instead of 1480"},
		{"a repetition", func(f []Fragment) { f[1].Offset = 0 }, "fragment at 0 instead of 1480"},
		{"another identification", func(f []Fragment) { f[1].ID++ }, "fragment at 1480 instead of 0"},
		{"the end too early", func(f []Fragment) { f[1].More = false }, "UDP length is 3008 in a datagram of 2960 bytes"},
		{"a wrong byte", func(f []Fragment) { f[1].Payload[5] ^= 1 }, "checksum of protocol 17"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fragments := d.Cut(7, 1480)
			c.spoil(fragments)
			g := &Guest{partials: map[partial][]byte{}}
			var first error
			for _, v := range fragments {
				f := &Frame{Src: v.Src, Dst: v.Dst, Bytes: v.frame(gatewayMAC, gatewayMAC)}
				if _, err := g.reassemble(f); err != nil && first == nil {
					first = err
				}
			}
			if c.want == "" {
				require.NoError(t, first)
				return
			}
			require.ErrorContains(t, first, c.want)
		})
	}
	f := &Frame{Header: vnet.Header{Flags: vnet.FlagNeedsCSum}, Bytes: d.Cut(7, 1480)[0].frame(gatewayMAC, gatewayMAC)}
	_, err := (&Guest{}).reassemble(f)
	require.ErrorContains(t, err, "an offload")
}
