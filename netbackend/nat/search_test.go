package nat_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

func TestTheHostsSearchDomainsAreToldUnlessTheUserSaysOthers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	require.NoError(t, os.WriteFile(file, []byte("search corp.example example.org\nnameserver 127.0.0.1\n"), 0o600))
	ofHost := "\x04corp\x07example\x00\x07example\x03org\x00"
	for name, c := range map[string]struct {
		change func(*nat.Config)
		want   string
	}{
		"the host's":             {func(*nat.Config) {}, ofHost},
		"the user's":             {func(c *nat.Config) { c.Search, c.Domain = []string{"lab.example"}, "x.example" }, "\x03lab\x07example\x00"},
		"the domain":             {func(c *nat.Config) { c.Domain = "x.example" }, "\x01x\x07example\x00"},
		"none":                   {func(c *nat.Config) { c.NoSearch = true }, ""},
		"the host's are secrets": {func(c *nat.Config) { c.Restrict = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{config: func(cfg *nat.Config) { cfg.ResolvConf = file; c.change(cfg) }})
			require.Equal(t, c.want, b.searchList())
			b.Advance(2 * time.Second)
			require.NoError(t, os.WriteFile(file, []byte("search new.example\nnameserver 127.0.0.1\n"), 0o600))
			if c.want == ofHost {
				require.Equal(t, "\x03new\x07example\x00", b.searchList(), "the host's file was changed")
			}
			require.NoError(t, os.WriteFile(file, []byte("search corp.example example.org\nnameserver 127.0.0.1\n"), 0o600))
		})
	}
}

// searchList returns the search domains that DHCP offers, as they are encoded.
func (b *bench) searchList() string {
	b.t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(b.MAC[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	require.NoError(b.t, err)
	b.SendDatagram(porttest.Datagram{Src: at("0.0.0.0:68"), Dst: at("255.255.255.255:67"), Payload: m.ToBytes()})
	b.Settle()
	d := b.Datagrams()
	require.Len(b.t, d, 1)
	a, err := dhcpv4.FromBytes(d[0].Payload)
	require.NoError(b.t, err)
	return string(a.Options[119])
}
