package nat

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

func TestForwardsReadLikeEveryones(t *testing.T) {
	ap := netip.MustParseAddrPort
	anyGuest := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }
	for text, want := range map[string]Forward{
		"8080:80":                                 {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, false, false, 0},
		"tcp:8080:80":                             {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, false, false, 0},
		"udp:53:5353":                             {protoUDP, "", ap("127.0.0.1:53"), anyGuest(5353), 1, false, false, 0},
		"0.0.0.0:22:22":                           {protoTCP, "", ap("0.0.0.0:22"), anyGuest(22), 1, false, false, 0},
		"127.0.0.2:22:10.0.2.16:23":               {protoTCP, "", ap("127.0.0.2:22"), ap("10.0.2.16:23"), 1, false, false, 0},
		"udp:127.0.0.2:1-9:10.0.2.16:1-9":         {protoUDP, "", ap("127.0.0.2:1"), ap("10.0.2.16:1"), 9, false, false, 0},
		"unix:/run/web.sock:80":                   {protoTCP, "/run/web.sock", netip.AddrPort{}, anyGuest(80), 1, false, false, 0},
		"unix:web.sock:10.0.2.16:80":              {protoTCP, "web.sock", netip.AddrPort{}, ap("10.0.2.16:80"), 1, false, false, 0},
		"unix:/run/a:1.2.3:b:80":                  {protoTCP, "/run/a:1.2.3:b", netip.AddrPort{}, anyGuest(80), 1, false, false, 0},
		"1-65535:1-65535":                         {protoTCP, "", ap("127.0.0.1:1"), anyGuest(1), 65535, false, false, 0},
		"gate:8080:80":                            {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, true, false, 0},
		"accept-proxy:8080:80":                    {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, false, true, 0},
		"send-proxy-v2:accept-proxy:gate:8080:80": {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, true, true, 2},
		"send-proxy:unix:/run/web.sock:80":        {protoTCP, "/run/web.sock", netip.AddrPort{}, anyGuest(80), 1, false, false, 1},
		"gate:tcp:0.0.0.0:22:22":                  {protoTCP, "", ap("0.0.0.0:22"), anyGuest(22), 1, true, false, 0},
		"[::1]:8080:80":                           {protoTCP, "", ap("[::1]:8080"), anyGuest(80), 1, false, false, 0},
		"8080:[fd00::7]:80":                       {protoTCP, "", ap("127.0.0.1:8080"), ap("[fd00::7]:80"), 1, false, false, 0},
		"udp:[::]:1-9:[fd00::7]:1-9":              {protoUDP, "", ap("[::]:1"), ap("[fd00::7]:1"), 9, false, false, 0},
		"unix:/run/a:[fd00::7]:80":                {protoTCP, "/run/a", netip.AddrPort{}, ap("[fd00::7]:80"), 1, false, false, 0},
		"unix:/run/a:[b]:80":                      {protoTCP, "/run/a:[b]", netip.AddrPort{}, anyGuest(80), 1, false, false, 0},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := ParseForward(text)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestAForwardIsPrintedAsItIsRead(t *testing.T) {
	for _, text := range []string{
		"tcp:127.0.0.1:8080:80", "udp:0.0.0.0:53:10.0.2.16:5353", "tcp:127.0.0.2:70-79:10.0.2.15:1070-1079",
		"unix:/run/web.sock:80", "unix:./web:1:10.0.2.16:80", "gate:tcp:127.0.0.1:8080-8081:80-81",
		"tcp:[::1]:8080:80", "udp:[2001:db8::1]:1-9:[fd00::7]:1-9", "unix:/run/a:[fd00::7]:80",
		"gate:accept-proxy:send-proxy:tcp:127.0.0.1:8080:80", "accept-proxy:send-proxy-v2:unix:/run/web.sock:80",
	} {
		f, err := ParseForward(text)
		require.NoError(t, err)
		require.Equal(t, text, f.String())
	}
}

func TestOptionsOfForwardsThatMakeNoSense(t *testing.T) {
	for text, want := range map[string]string{
		"send-proxy:udp:53:53":             "only TCP forwards can have one",
		"accept-proxy:udp:53:53":           "only TCP forwards can have one",
		"gate:gate:80:80":                  "conflicting option gate:",
		"send-proxy:send-proxy-v2:80:80":   "conflicting option send-proxy-v2:",
		"accept-proxy:accept-proxy:80:80":  "conflicting option accept-proxy:",
		"gate:send-proxy:unix:/run/a.s:80": "only ports can have gates",
		"send-proxy-v3:80:80":              "forward",
		"tcp:send-proxy:80:80":             "forward",
	} {
		_, err := ParseForward(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestForwardsOverlapIfTheyWantTheSamePort(t *testing.T) {
	for _, c := range []struct{ a, b, both string }{
		{"80:80", "80:81", "port 80 of the host"},
		{"80:80", "81:80", ""},
		{"80:80", "udp:80:80", ""},
		{"80:80", "127.0.0.2:80:80", ""},
		{"80:80", "0.0.0.0:80:80", "port 80 of the host"},
		{"70-79:70-79", "79-90:79-90", "port 79 of the host"},
		{"70-79:70-79", "80-90:80-90", ""},
		{"1-65535:1-65535", "65535:1", "port 65535 of the host"},
		{"0.0.0.0:80:80", "[::]:80:80", ""},
		{"[::]:80:80", "[::1]:80:[fd00:10:0:2::15]:80", "port 80 of the host"},
		{"unix:/tmp/b:80", "unix:/tmp/./b:81", "the socket /tmp/b"},
		{"unix:/tmp/b:80", "unix:/tmp/c:80", ""},
		{"unix:/tmp/b:80", "80:80", ""},
	} {
		a, err := ParseForward(c.a)
		require.NoError(t, err)
		b, err := ParseForward(c.b)
		require.NoError(t, err)
		cfg := DefaultConfig()
		for _, cfg.Forwards = range [][]Forward{{a, b}, {b, a}} {
			if c.both == "" {
				require.NoError(t, cfg.Check(), "%s %s", a, b)
				continue
			}
			require.ErrorContains(t, cfg.Check(), "both want "+c.both)
		}
	}
}

func TestTheHolderOfAPortIsFoundByAddress(t *testing.T) {
	const line = "   3: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0 100 0 0 10 0"
	const any6 = "   3: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000        0 48213 1"
	for _, c := range []struct {
		line, port string
		holds      bool
	}{
		{line, "127.0.0.1:8080", true},
		{line, "0.0.0.0:8080", true},
		{line, "127.0.0.1:8081", false},
		{line, "127.0.0.2:8080", false},
		{strings.Replace(line, " 0A ", " 01 ", 1), "127.0.0.1:8080", false}, // a connection
		{any6, "127.0.0.1:8080", true},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "127.0.0.1:8080", false},
		{"", "127.0.0.1:8080", false},
	} {
		inode, holds := holdsPort(c.line, protoTCP, netip.MustParseAddrPort(c.port))
		require.Equal(t, c.holds, holds, "%s %s", c.port, c.line)
		if holds {
			require.Equal(t, "48213", inode)
		}
	}
}

func TestAWrongForwardIsToldByItsWrongPart(t *testing.T) {
	for text, part := range map[string]string{
		"":                   "a host port and a guest port are needed",
		"127.0.0.1:80":       "a host port and a guest port are needed",
		"1:2:3:4":            "too many colons",
		"1:2:3":              `"2" is not an IP address`,
		"0:80":               `"0" is not a port`,
		"80:65536":           `"65536" is not a port`,
		"80:http":            `"http" is not a port`,
		"9-5:9-5":            `the range "9-5" ends before it begins`,
		"1-5:1-4":            "5 ports of the host cannot lead to 4",
		"1.2.3:80:80":        `"1.2.3" is not an IP address`,
		"[::1%lo]:80:80":     `"::1%lo" has a zone`,
		"[127.0.0.1]:80:80":  "IPv6 addresses, and no others, are written in brackets; write -p 127.0.0.1:80:80",
		"80:[::g]:80":        `"::g" is not an IP address`,
		"80:10.0.2.300:80":   `"10.0.2.300" is not an IP address`,
		"sctp:80:80":         `"sctp" is not an IP address`,
		"web:8080:80":        `"web" is not an IP address`,
		"127.0.0.1:80:1.1.1": `"1.1.1" is not a port`,
		"127.0.0.1::80":      `"" is not a port`,
		"unix:/run/web.sock": "a path and a guest port are needed",
		"unix:/run/web:http": `"http" is not a port`,
		"unix::80":           "a path is needed",
		"unix:10.0.2.16:80":  "a path is needed",
		"unix:/a:80-89":      `"80-89" is not a port`,
		"unix:@web:80":       "there are none; ./@web is a file",
		"unix:a\x00b:80":     "zero byte",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := ParseForward(text)
			require.ErrorContains(t, err, part)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestHostServices(t *testing.T) {
	addr := netip.MustParseAddr
	for text, want := range map[string]HostService{
		"5201":                 {Proto: protoTCP, Port: 5201},
		"tcp:5201":             {Proto: protoTCP, Port: 5201},
		"udp:53":               {Proto: protoUDP, Port: 53},
		"icmp:192.0.2.1":       {Proto: protoICMP, Addr: addr("192.0.2.1")},
		"tcp:192.0.2.1:443":    {Proto: protoTCP, Addr: addr("192.0.2.1"), Port: 443},
		"udp:[2001:db8::1]:53": {Proto: protoUDP, Addr: addr("2001:db8::1"), Port: 53},
		"icmp:2001:db8::1":     {Proto: protoICMP, Addr: addr("2001:db8::1")},
		"tcp:127.0.0.1:23500":  {Proto: protoTCP, Addr: addr("127.0.0.1"), Port: 23500},
		"[::1]:23500":          {Proto: protoTCP, Addr: addr("::1"), Port: 23500},
	} {
		got, err := ParseHostServices(text)
		require.NoError(t, err)
		require.Equal(t, []HostService{want}, got)
		again, err := ParseHostServices(want.String())
		require.NoError(t, err)
		require.Equal(t, got, again, "it is printed as it is read")
	}
	range3, err := ParseHostServices("udp:192.0.2.1:60000-60002")
	require.NoError(t, err)
	require.Len(t, range3, 3)
	require.Equal(t, HostService{protoUDP, addr("192.0.2.1"), 60002}, range3[2])
	all, err := ParseHostServices("1-65535")
	require.NoError(t, err)
	require.Len(t, all, 65535)
	for _, text := range []string{
		"", "x", "tcp:", "tcp:0", "tcp:1.2.3:80", "icmp:", "icmp:7", "icmp:192.0.2.1:7", "tcp:[::1]", "tcp:[::1]:x",
		"tcp:[fe80::1%lo]:80", "tcp:127.0.0.2:80", "tcp:0.0.0.0:80", "[::]:80", "icmp:127.0.0.1", "icmp:::1", "tcp:224.0.0.1:80", "9-5",
	} {
		_, err := ParseHostServices(text)
		require.Error(t, err, text)
	}
}

func TestAServiceOfTheHostsLoopbackIsFoundAtTheRouter(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, cfg.SetNetwork6(netip.MustParsePrefix("fd00:10:0:2::/64")))
	for text, want := range map[string]struct{ v4, v6 bool }{
		"tcp:80":           {true, true},
		"tcp:127.0.0.1:80": {true, false},
		"tcp:[::1]:80":     {false, true},
	} {
		var err error
		cfg.AllowHost, err = ParseHostServices(text)
		require.NoError(t, err)
		p, err := newPolicy(&cfg)
		require.NoError(t, err)
		defer p.close()
		goesTo := func(to netip.Addr) verdict {
			_, v := p.destination(&flowKey{proto: protoTCP, remote: ipaddr.From(to), remotePort: 80})
			return v
		}
		require.Equal(t, want.v4, goesTo(cfg.Gateway) == allowed, text)
		require.Equal(t, want.v6, goesTo(cfg.Gateway6) == allowed, text)
	}
}

// checkCorrection checks that what an error says to write can be read.
func checkCorrection(t *testing.T, err error) {
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("more than a line: %q", err)
	}
	_, options, found := strings.Cut(err.Error(), "; write -p ")
	options, _, _ = strings.Cut(options, "; ")
	if !found || strings.ContainsAny(options, "\"/") {
		return // a path or a quotation may hold anything
	}
	for o := range strings.SplitSeq(options, " -p ") {
		if _, err := ParseForward(o); err != nil {
			t.Fatalf("%q cannot be read: %v", o, err)
		}
	}
}

func FuzzParseForward(f *testing.F) {
	f.Add("udp:127.0.0.2:1-9:10.0.2.16:1-9")
	f.Add("8080:80")
	f.Add(":::-:")
	f.Add("unix:/run/a:b:10.0.2.16:80")
	f.Add("udp:[::]:1-9:[fd00::7]:1-9")
	f.Add("unix:/run/a:[fd00::7]:80")
	f.Add("hostfwd=tcp:[::1]:8080-:80,53/udp")
	f.Add("GATE:*:8080:fd00::1:80")
	f.Add("192.0.2.1%eth0/22:23")
	f.Fuzz(func(t *testing.T, text string) {
		fw, err := ParseForward(text)
		if err != nil {
			checkCorrection(t, err)
			return
		}
		if fw.Count == 0 || fw.Guest.Port() == 0 || int(fw.Guest.Port())+int(fw.Count) > 65536 ||
			(fw.Path == "") == (fw.Host.Port() == 0) || int(fw.Host.Port())+int(fw.Count) > 65536 {
			t.Fatalf("%q gave %+v", text, fw)
		}
		if again, err := ParseForward(fw.String()); err != nil || again != fw {
			t.Fatalf("%q gave %+v, which is printed as %q: %v", text, fw, fw.String(), err)
		}
	})
}
