package nat_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// discover is a DHCPDISCOVER with further options behind its type. They are taken as they are.
func (h *hostile) discover(options ...byte) []byte {
	b := make([]byte, 236, 600)
	copy(b, []byte{1, 1, 6, 0, 'v', 'r', 'n', 'g'})
	copy(b[28:], h.MAC[:])
	return append(append(b, 99, 130, 83, 99, 53, 1, 1), options...)
}

// sendDHCP sends a DHCP message and returns how many datagrams came back.
func (h *hostile) sendDHCP(message []byte) []*porttest.Datagram {
	h.Datagrams()
	h.SendDatagram(porttest.Datagram{
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: message,
	})
	h.Settle()
	return h.Datagrams()
}

func TestS3P1DHCPOptions(t *testing.T) {
	h := newHostile(t, setup{})
	for name, c := range map[string]struct {
		options  []byte
		answered bool
	}{
		"none":                                 {[]byte{255}, true},
		"no end":                               {nil, true},
		"padding in the middle":                {[]byte{0, 0, 12, 1, 'a', 0, 255}, true},
		"a length behind the end":              {[]byte{255, 200}, true},
		"an option behind the end":             {[]byte{255, 12, 255, 'a'}, true},
		"a length beyond the message":          {[]byte{12, 200, 'a', 255}, false},
		"a length beyond the message by three": {[]byte{12, 3, 'a'}, false},
		"a code without a length":              {[]byte{12}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.sendDHCP(h.discover(c.options...))
			require.Equal(t, c.answered, len(got) == 1, "%v", got)
		})
	}
}

func TestS13TruncatedBOOTPMessagesAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	whole := h.discover(12, 4, 'n', 'a', 'm', 'e', 255)
	require.Len(t, h.sendDHCP(whole), 1)
	for n := range 236 {
		require.Empty(t, h.sendDHCPNow(whole[:n]))
	}
}

// sendDHCPNow is sendDHCP for answers that need no socket.
func (h *hostile) sendDHCPNow(message []byte) []*porttest.Datagram {
	h.SendDatagram(porttest.Datagram{
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: message,
	})
	h.Turn()
	return h.Datagrams()
}

func TestS16NamesThatDHCPCannotCarryAreRefusedAtStart(t *testing.T) {
	for _, change := range []func(*nat.Config){
		func(c *nat.Config) { c.Hostname = strings.Repeat("a", 256) },
		func(c *nat.Config) { c.Domain = strings.Repeat("a.", 200) },
	} {
		cfg := nat.DefaultConfig()
		change(&cfg)
		_, err := nat.New(cfg)
		require.Error(t, err)
	}
}

// The longest names still leave an answer that a guest with the least MTU can take.
func TestS16TheLongestNamesFit(t *testing.T) {
	label := strings.Repeat("a", 63)
	h := newHostile(t, setup{guest: porttest.Options{MTU: 576}, config: func(c *nat.Config) {
		c.Hostname, c.Domain = label, strings.Join([]string{label, label, label, "example"}, ".")
	}})
	id := append([]byte{61, 255}, slices.Repeat([]byte{7}, 255)...)
	require.Len(t, h.sendDHCP(h.discover(append(id, 255)...)), 1)
}

func TestG2WithoutAResolverQueriesFailAndNothingElse(t *testing.T) {
	for name, file := range map[string]string{"no file": "", "a file that is not there": t.TempDir() + "/resolv.conf"} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, setup{config: func(c *nat.Config) { c.ResolvConf = file }})
			query := porttest.Datagram{
				Src: netip.AddrPortFrom(h.IP, 5000), Dst: netip.MustParseAddrPort("10.0.2.3:53"),
				Payload: []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1},
			}
			h.SendDatagram(query)
			h.Settle()
			got := h.Datagrams()
			require.Len(t, got, 1)
			require.EqualValues(t, 2, got[0].Payload[3]&15, "SERVFAIL")
			const header = 12
			for n := range header {
				short := query
				short.Payload = query.Payload[:n]
				h.SendDatagram(short)
				h.Turn()
				require.Empty(t, h.Datagrams(), "what is no query gets no answer")
			}
			require.EqualValues(t, 2, h.lookUp("a")[3]&15, "SERVFAIL by TCP")
		})
	}
}
