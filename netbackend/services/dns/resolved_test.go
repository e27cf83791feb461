package dns_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

// The files of testdata/systemd-252 were written by systemd-resolved 252 (Debian 12), as /run/systemd/resolve/stub-resolv.conf and resolv.conf there:
// with DNS=198.18.7.53 2001:db8:7::53 fe80::53%wire0 and Domains=lab.example corp.example in its resolved.conf, and with DNS=198.18.7.53 alone.

// all returns all resolvers, in the order in which they are asked.
func all(r *dns.Relay, now int64) (list []string) {
	var asked []dns.Server
	for to, ok := r.Next(now, dns.UDP, asked); ok; to, ok = r.Next(now, dns.UDP, asked) {
		asked = append(asked, to)
		list = append(list, to.String())
	}
	return list
}

func TestTheFilesOfSystemdResolvedAreFollowed(t *testing.T) {
	run, etc := t.TempDir(), t.TempDir()
	name := filepath.Join(etc, "resolv.conf")
	// lead lets the host's file be a link to one of systemd-resolved's, which takes the place of what is there at once.
	lead := func(to string) {
		relative, err := filepath.Rel(etc, filepath.Join(run, to))
		require.NoError(t, err)
		require.NoError(t, os.Symlink(relative, name+".new"))
		require.NoError(t, os.Rename(name+".new", name))
	}
	// writes has systemd-resolved write one of its files anew, which it does by renaming, too.
	writes := func(to, recorded string) {
		text, err := os.ReadFile(filepath.Join("testdata/systemd-252", recorded))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(run, "new"), text, 0o600))
		require.NoError(t, os.Rename(filepath.Join(run, "new"), filepath.Join(run, to)))
	}
	domains := []string{"lab.example", "corp.example"}
	// Sockets of the engine cannot name the link of a link-local address.
	r := dns.New(dns.Config{File: name, Usable: func(a netip.Addr) bool { return a.Zone() == "" }})
	for i, step := range []struct {
		what   string
		do     func()
		want   []string
		search []string
	}{
		{"the stub", func() { writes("stub-resolv.conf", "stub.conf"); lead("stub-resolv.conf") }, []string{"127.0.0.53:53"}, domains},
		{"the stub without domains", func() { writes("stub-resolv.conf", "stub-without-domains.conf") }, []string{"127.0.0.53:53"}, nil},
		{"a link to the uplinks", func() { writes("resolv.conf", "uplinks.conf"); lead("resolv.conf") }, []string{"198.18.7.53:53", "[2001:db8:7::53]:53"}, domains},
		{"other uplinks", func() { writes("resolv.conf", "uplinks-without-domains.conf") }, []string{"198.18.7.53:53"}, nil},
		{"the link back", func() { writes("stub-resolv.conf", "stub.conf"); lead("stub-resolv.conf") }, []string{"127.0.0.53:53"}, domains},
		{"a stub that has just been removed", func() { require.NoError(t, os.Remove(filepath.Join(run, "stub-resolv.conf"))) }, []string{"127.0.0.53:53"}, domains},
		{"and is back", func() { writes("stub-resolv.conf", "stub.conf") }, []string{"127.0.0.53:53"}, domains},
	} {
		step.do()
		now := int64(i) * second
		require.Equal(t, step.want, all(r, now), step.what)
		require.Equal(t, step.search, r.Search(now), step.what)
	}
}

// A host whose only resolver is on a link cannot be asked.
func TestAResolverWithAZoneIsOfNoUse(t *testing.T) {
	file := resolvConf(t, "nameserver fe80::53%3", "search lab.example")
	r := dns.New(dns.Config{File: file, Usable: func(a netip.Addr) bool { return a.Zone() == "" }})
	require.Empty(t, all(r, 0))
	require.Equal(t, []string{"lab.example"}, r.Search(0))
}
