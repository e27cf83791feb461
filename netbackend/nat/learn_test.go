package nat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// While names are learned, whatever a guest sends goes on as it is, be it a hello, half of one, or none; and it is recorded by which name.
func TestWhileNamesAreLearnedNothingIsRefused(t *testing.T) {
	hello := clientHello(t, "svc")
	other := clientHello(t, "other.example")
	for name, c := range map[string]struct {
		to     string
		sends  []byte
		ends   bool   // the guest ends its stream behind that
		late   bool   // no more comes for long
		named  string // by which it is recorded
		isTold bool
	}{
		"a hello":                       {to: "198.51.100.7:443", sends: hello, named: "svc", isTold: true},
		"a name that nobody asked for":  {to: "198.51.100.7:443", sends: other, named: "other.example", isTold: true},
		"no TLS":                        {to: "198.51.100.7:443", sends: []byte("no TLS at all\n"), named: "svc"},
		"half a hello that ends":        {to: "198.51.100.7:443", sends: hello[:40], ends: true, named: "svc"},
		"half a hello without the rest": {to: "198.51.100.7:443", sends: hello[:40], late: true, named: "svc"},
		"a request":                     {to: "198.51.100.7:80", sends: []byte(request("svc")), named: "svc", isTold: true},
		"a request that rules refuse":   {to: "198.51.100.7:80", sends: []byte("GET / HTTP/1.1\r\nHost: svc\r\nHost: other\r\n\r\n"), named: "svc"},
		"no HTTP":                       {to: "198.51.100.7:80", sends: []byte("\x00\x01\x02 no HTTP\r\n\r\n"), named: "svc"},
		"a connection without a name":   {to: "198.51.100.8:80", sends: []byte("GET / HTTP/1.0\r\n\r\n"), named: ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{withAddress(query, 198, 51, 100, 7)} })
			recorder := audit.NewRecorder(64, make(chan struct{}, 1), time.Now)
			p := newOutbound(t, "via=socks5://PROXY", setup{config: func(c *nat.Config) {
				c.Learn, c.Resolvers, c.Audit = true, dns.Plain(r.addr), func() *audit.Recorder { return recorder }
			}})
			p.ask(4001, question(3, "svc"))
			p.resolved("the answer")
			conn := p.Dial(at(c.to))
			host := p.accept(socksHello)
			p.says(host, "\x05\x00")
			port := string([]byte{0, 80})
			if at(c.to).Port() == 443 {
				port = "\x01\xbb"
			}
			asks := "\x05\x01\x00\x03\x03svc" + port
			if c.named == "" {
				asks = "\x05\x01\x00\x01\xc6\x33\x64\x08" + port
			}
			require.Equal(t, asks, string(p.readSome(host, len(asks))))
			p.says(host, socksTaken)
			p.Until("the connection is open", func() bool { return conn.State == porttest.Open })
			conn.Send(c.sends)
			if c.ends {
				conn.Close()
			}
			if c.late {
				p.Settle()
				p.Advance(6 * time.Second)
			}
			require.Equal(t, c.sends, p.readSome(host, len(c.sends)))
			if c.ends {
				require.NoError(t, p.readAll(host).err)
			}
			var last *audit.Entry
			entries := make([]audit.Entry, 64)
			for i := range entries[:recorder.Take(entries)] {
				if entries[i].Kind == audit.Named {
					last = &entries[i]
				}
			}
			require.NotNil(t, last)
			require.Equal(t, c.named, last.Name)
			require.Equal(t, c.isTold, last.Told)
			require.Equal(t, c.named == "svc", last.Answered)
			require.Zero(t, p.port.Counters().Denied)
			require.Zero(t, p.port.Counters().ProofsRefused)
		})
	}
}
