package nat_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// flags are rules as they stand on the command line.
func flags(t *testing.T, c *nat.Config, texts ...string) {
	for _, text := range texts {
		r, err := spec.ParseRule(text[1:], text[0] == '+')
		require.NoError(t, err)
		c.Rules = append(c.Rules, r)
	}
}

func TestWhatARuleClosesIsRefusedAtOnce(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { flags(t, c, "-198.51.100.0/24") }})
	b.Resolve()

	c := b.Dial(at("198.51.100.7:80"))
	b.Until("a connection is reset", func() bool { return c.State == porttest.Refused })
	require.True(t, c.Segments[0].Has(porttest.RST|porttest.ACK))
	require.EqualValues(t, 1, b.port.Counters().Denied)

	b.SendDatagram(porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("198.51.100.7:443"), Payload: []byte("hello")})
	m := b.told()
	require.EqualValues(t, 13, m.Code, "prohibited: nobody claims that the port is closed")
	require.Equal(t, []byte{198, 51, 100, 7, 4, 0, 443 >> 8, 443 & 255, 0, 13}, m.Payload[16:26], "the datagram is quoted")

	b.echo("198.51.100.7", 1, 1, nil)
	require.EqualValues(t, 13, b.told().Code)

	require.EqualValues(t, 3, b.port.Counters().Denied)
	require.EqualValues(t, 2, b.port.Counters().Unreachables)
	require.Zero(t, b.Sockets())
	require.Empty(t, b.Notices(), "it is as the user wished")
}

func TestLinkLocalAddressesWaitForARule(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	c := b.Dial(at("169.254.169.254:80"))
	b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	require.Len(t, b.Notices(), 1)
	require.Contains(t, b.Notices()[0].Message, "--allow tcp:169.254.169.254:80")
}

func TestARestrictedGuestReachesWhatWasOpened(t *testing.T) {
	resolver, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer resolver.Close()
	restricted := func(c *nat.Config) {
		c.Restrict = true
		c.ResolvConf = "/etc/resolv.conf"
	}
	query := porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("10.0.2.3:53"), Payload: make([]byte, 17)}
	query.Payload[5] = 1 // one question, for the root

	t.Run("the rest is closed", func(t *testing.T) {
		b := newBench(t, setup{config: restricted})
		b.Resolve()
		c := b.Dial(at("198.51.100.7:80"))
		b.Until("a connection is reset", func() bool { return c.State == porttest.Refused })
		b.SendDatagram(porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("198.51.100.7:443"), Payload: []byte("x")})
		require.EqualValues(t, 13, b.told().Code)
		require.Contains(t, b.Notices()[0].Message, "--allow tcp:198.51.100.7:80")
	})
	t.Run("services of the host that were opened are not", func(t *testing.T) {
		b := newBench(t, setup{config: restricted})
		c, host := b.connect()
		c.Send([]byte("hello"))
		require.Equal(t, "hello", string(b.readSome(host, 5)))
	})
	t.Run("the host's resolvers are not asked", func(t *testing.T) {
		b := newBench(t, setup{config: restricted})
		b.Resolve()
		b.SendDatagram(query)
		var answers []*porttest.Datagram
		b.Until("the answer", func() bool { answers = b.Datagrams(); return len(answers) > 0 })
		const failed = 2 // SERVFAIL
		require.EqualValues(t, failed, answers[0].Payload[3]&15)
		require.Zero(t, b.Sockets())
	})
	t.Run("a resolver that was named is", func(t *testing.T) {
		b := newBench(t, setup{config: func(c *nat.Config) {
			restricted(c)
			c.Resolvers = dns.Plain(resolver.LocalAddr().(*net.UDPAddr).AddrPort())
		}})
		b.Resolve()
		b.SendDatagram(query)
		got := await(b, "the resolver is asked", func() int {
			n, _, _ := resolver.ReadFrom(make([]byte, 100))
			return n
		})
		require.Equal(t, len(query.Payload), got)
	})
	t.Run("what the host begins is answered", func(t *testing.T) {
		b, dial := newForward(t, setup{config: restricted})
		l := b.Listen(80)
		client := dial()
		c := l.Accept()
		c.Send([]byte("hello"))
		require.Equal(t, "hello", string(b.readSome(client, 5)))
	})
}

func TestRepliesToTheHostsDatagramsAreAlwaysAllowed(t *testing.T) {
	host := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		f, err := spec.ParseForward("udp:" + host.String() + ":7")
		require.NoError(t, err)
		c.Forwards = []spec.Forward{f}
		c.Restrict = true
		flags(t, c, "-0.0.0.0/0")
	}})
	b.Resolve()
	client, err := net.Dial("udp4", host.String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte("question"))
	require.NoError(t, err)
	var got []*porttest.Datagram
	b.Until("the question", func() bool { got = b.Datagrams(); return len(got) > 0 })
	b.SendDatagram(porttest.Datagram{Src: got[0].Dst, Dst: got[0].Src, Payload: []byte("answer")})
	answer := await(b, "the answer", func() string {
		buf := make([]byte, 10)
		n, _ := client.Read(buf)
		return string(buf[:n])
	})
	require.Equal(t, "answer", answer)
	require.Zero(t, b.port.Counters().Denied)

	b.SendDatagram(porttest.Datagram{Src: at("10.0.2.15:8"), Dst: got[0].Src, Payload: []byte("from another port")})
	require.EqualValues(t, 3, b.told().Code, "the gateway is a host on which nothing else is open")
	require.EqualValues(t, 1, b.port.Counters().Denied)
}
