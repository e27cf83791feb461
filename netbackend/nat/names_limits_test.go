package nat_test

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// serveOn53 starts a resolver where a resolv.conf can name it, which tells of the names that it is asked for.
func serveOn53(t *testing.T, ip string, asked chan<- string) {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(ip), 53)
	packet, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	require.NoError(t, err)
	listen, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = packet.Close(), listen.Close() })
	go func() {
		buf := make([]byte, 1000)
		for {
			n, from, err := packet.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			asked <- string(buf[13 : 13+buf[12]])
			_, _ = packet.WriteToUDPAddrPort(answerTo(buf[:n], noError), from)
		}
	}()
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o600) }

func TestD6AGuestHasFewQueriesUnderWay(t *testing.T) {
	const most = 60
	slow := func(query []byte) [][]byte {
		if query[13] == 's' {
			return nil
		}
		return always(noError)(query)
	}
	r := newResolver(t, "127.0.0.1", slow)
	b := newAsking(t, setup{}, r.addr)
	for i := range 100 {
		b.ask(1024, question(uint16(i), "slow")) // all from one port
	}
	refusals := 0
	b.Until("those above the limit are answered", func() bool {
		for _, d := range b.Datagrams() {
			require.EqualValues(t, servFail, d.Payload[3]&0xf)
			require.GreaterOrEqual(t, d.Payload[1], byte(most), "the newest are refused")
			refusals++
		}
		return refusals == 100-most
	})
	b.count(r, most)
	require.EqualValues(t, most, b.port.Counters().Queries)
	require.EqualValues(t, 100-most, b.port.Counters().QueriesTooMany)
	require.EqualValues(t, servFail, b.asks(1025, "quick"), "whatever it is")
	require.Equal(t, "the guest has too many DNS queries under way; more are answered by SERVFAIL", b.Notices()[0].Message)

	b.Run(9 * time.Second)
	require.EqualValues(t, servFail, b.asks(1025, "quick"), "the resolver may be at them still")
	b.Run(2 * time.Second)
	require.Zero(t, b.Sockets())
	require.EqualValues(t, noError, b.asks(1025, "quick"))
}

// What one guest takes is not what others miss, and all together leave something of a resolver to the host.
func TestD6GuestsOfOneProcessShareTheResolver(t *testing.T) {
	r := newResolver(t, "127.0.0.1", silence)
	cfg := nat.DefaultConfig()
	cfg.Resolvers, cfg.ResolvConf = dns.Plain(r.addr), ""
	configs, err := cfg.ForGuests(3)
	require.NoError(t, err)
	var all, streams int
	for i, want := range []int{60, 30, 15} {
		port, err := nat.New(configs[i])
		require.NoError(t, err)
		b := &bench{Guest: porttest.New(t, port, porttest.Options{}), t: t, port: port}
		b.IP = configs[i].Guest
		b.Resolve()
		for id := range 100 {
			b.ask(1024, question(uint16(id), "a"))
		}
		all += want
		b.count(r, all)
		b.Settle()
		require.EqualValues(t, want, port.Counters().Queries)
		for range 6 {
			b.Dial(nameServer)
		}
		b.Settle()
		streams += 6 - int(port.Counters().ResolverConnectionsTooMany)
	}
	require.Equal(t, 4+4+2, streams)
}

func TestD7AGuestHasFewConnectionsToTheNameServerWhichEndWhenIdle(t *testing.T) {
	r := newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{}, r.addr)
	var open []*porttest.TCP
	for range 4 {
		open = append(open, b.Connect(nameServer))
	}
	more := b.Dial(nameServer)
	b.Until("the fifth is refused", func() bool { return more.State == porttest.Refused })
	require.EqualValues(t, 1, b.port.Counters().ResolverConnectionsTooMany)

	query := framed(question(1, "a"))
	for i := range 12 { // one of them is in use
		b.Run(time.Second)
		open[0].Send(query)
		open[0].WaitFor((i + 1) * len(query))
	}
	for _, c := range open[1:] {
		require.True(t, c.FinReceived, "the others have ended, as a server ends them")
		c.Close()
	}
	require.False(t, open[0].Ended())
	b.Until("and their places are free", func() bool { return b.streams() == 1 })
	for range 3 {
		b.Connect(nameServer)
	}
	b.Run(12 * time.Second)
	require.True(t, open[0].FinReceived)
	b.Run(30 * time.Second)
	require.Zero(t, b.streams(), "also if the guest does not end its side")
	require.EqualValues(t, 4, b.endings()["ended_idle"])
}

// streams returns how many connections to the name server there are.
func (b *bench) streams() int {
	for _, u := range b.port.Limits() {
		if u.Name == "name server connections" {
			return u.Used
		}
	}
	b.t.Fatal("it is not told")
	return 0
}

func TestD8OnlyOrdinaryQueriesPass(t *testing.T) {
	transfer := question(7, "zone")
	transfer[len(transfer)-3] = 252
	update := question(8, "zone")
	update[2] = 5 << 3
	r := newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{}, r.addr)
	for _, c := range []struct {
		message []byte
		want    byte
	}{{transfer, refused}, {update, notImp}, {question(9, "a")[:14], formErr}} {
		b.ask(1024, c.message)
		require.Equal(t, c.want, b.resolved("an answer")[3]&0xf)
	}
	require.EqualValues(t, 3, b.port.Counters().QueriesRefused)
	require.Zero(t, r.queries())

	t.Run("by TCP", func(t *testing.T) {
		b := newAsking(t, setup{}, r.addr)
		c := b.Connect(nameServer)
		before := r.queries()
		for _, m := range []struct {
			message []byte
			want    byte
		}{{transfer, refused}, {question(1, "a"), noError}, {update, notImp}, {question(9, "a")[:14], formErr}, {question(2, "b"), noError}} {
			c.Send(framed(m.message))
			got := b.answerBy(c)
			require.Equal(t, m.message[:2], got[:2])
			require.Equal(t, m.want, got[3]&0xf)
		}
		require.EqualValues(t, 3, b.port.Counters().QueriesRefused)
		require.Equal(t, before+2, r.queries())
	})
}

func TestQueriesEndWithTheGuest(t *testing.T) {
	r := newResolver(t, "127.0.0.1", silence)
	for name, grace := range map[string]time.Duration{"at once": 0, "though it may come back": time.Hour} {
		t.Run(name, func(t *testing.T) {
			b := newAsking(t, setup{config: func(c *nat.Config) { c.ReconnectGrace = grace }}, r.addr)
			before := r.queries()
			b.ask(1024, question(7, "a"))
			b.count(r, before+1)
			b.Disconnect()
			require.Zero(t, b.Sockets())
		})
	}
}

// What a guest may have is the same on however many queues it asks, and a connection may hop between them.
func TestD6QueriesOnAllQueuesAreOneGuests(t *testing.T) {
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte {
		if query[13] == 's' {
			return nil
		}
		return always(noError)(query)
	})
	b, _ := newQueues(t, 3, func(c *nat.Config) { c.Resolvers, c.ResolvConf = dns.Plain(r.addr), "" })
	b.Resolve()
	for i := range 20 {
		require.EqualValues(t, noError, b.asks(uint16(1024+i), "quick"))
		require.EqualValues(t, noError, b.lookUp("quick")[3]&0xf)
	}
	for i := range 100 {
		b.ask(uint16(2000+i), question(uint16(i), "slow"))
	}
	refusals := 0
	b.Until("those above the limit are answered", func() bool { refusals += len(b.Datagrams()); return refusals >= 40 })
	b.count(r, 20+20+60)
	require.Equal(t, 40, refusals)
}
