package spec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForwardsReadLikeEveryones(t *testing.T) {
	ap := netip.MustParseAddrPort
	anyGuest := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }
	for text, want := range map[string]Forward{
		"8080:80":                                 {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, false, false, 0, Binding{}},
		"tcp:8080:80":                             {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, false, false, 0, Binding{}},
		"udp:53:5353":                             {protoUDP, "", ap("127.0.0.1:53"), anyGuest(5353), 1, false, false, 0, Binding{}},
		"0.0.0.0:22:22":                           {protoTCP, "", ap("0.0.0.0:22"), anyGuest(22), 1, false, false, 0, Binding{}},
		"127.0.0.2:22:10.0.2.16:23":               {protoTCP, "", ap("127.0.0.2:22"), ap("10.0.2.16:23"), 1, false, false, 0, Binding{}},
		"udp:127.0.0.2:1-9:10.0.2.16:1-9":         {protoUDP, "", ap("127.0.0.2:1"), ap("10.0.2.16:1"), 9, false, false, 0, Binding{}},
		"unix:/run/web.sock:80":                   {protoTCP, "/run/web.sock", netip.AddrPort{}, anyGuest(80), 1, false, false, 0, Binding{}},
		"unix:web.sock:10.0.2.16:80":              {protoTCP, "web.sock", netip.AddrPort{}, ap("10.0.2.16:80"), 1, false, false, 0, Binding{}},
		"unix:/run/a:1.2.3:b:80":                  {protoTCP, "/run/a:1.2.3:b", netip.AddrPort{}, anyGuest(80), 1, false, false, 0, Binding{}},
		"1-65535:1-65535":                         {protoTCP, "", ap("127.0.0.1:1"), anyGuest(1), 65535, false, false, 0, Binding{}},
		"gate:8080:80":                            {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, true, false, 0, Binding{}},
		"accept-proxy:8080:80":                    {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, false, true, 0, Binding{}},
		"send-proxy-v2:accept-proxy:gate:8080:80": {protoTCP, "", ap("127.0.0.1:8080"), anyGuest(80), 1, true, true, 2, Binding{}},
		"send-proxy:unix:/run/web.sock:80":        {protoTCP, "/run/web.sock", netip.AddrPort{}, anyGuest(80), 1, false, false, 1, Binding{}},
		"gate:tcp:0.0.0.0:22:22":                  {protoTCP, "", ap("0.0.0.0:22"), anyGuest(22), 1, true, false, 0, Binding{}},
		"[::1]:8080:80":                           {protoTCP, "", ap("[::1]:8080"), anyGuest(80), 1, false, false, 0, Binding{}},
		"8080:[fd00::7]:80":                       {protoTCP, "", ap("127.0.0.1:8080"), ap("[fd00::7]:80"), 1, false, false, 0, Binding{}},
		"udp:[::]:1-9:[fd00::7]:1-9":              {protoUDP, "", ap("[::]:1"), ap("[fd00::7]:1"), 9, false, false, 0, Binding{}},
		"unix:/run/a:[fd00::7]:80":                {protoTCP, "/run/a", netip.AddrPort{}, ap("[fd00::7]:80"), 1, false, false, 0, Binding{}},
		"127.0.0.1%lo:80:80":                      {protoTCP, "", ap("127.0.0.1:80"), anyGuest(80), 1, false, false, 0, Binding{Interface: "lo"}},
		"if-free:udp:[::]%eth0:1-9:1-9":           {protoUDP, "", ap("[::]:1"), anyGuest(1), 9, false, false, 0, Binding{Interface: "eth0", IfFree: true}},
		"freebind:192.0.2.1:80:80":                {protoTCP, "", ap("192.0.2.1:80"), anyGuest(80), 1, false, false, 0, Binding{Freebind: true}},
		"unix:/run/a:[b]:80":                      {protoTCP, "/run/a:[b]", netip.AddrPort{}, anyGuest(80), 1, false, false, 0, Binding{}},
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
		"if-free:freebind:tcp:[::]%lo:80:80", "udp:0.0.0.0%eth0.5:80:80",
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
		"if-free:if-free:80:80":            "conflicting option if-free:",
		"freebind:unix:/run/a.s:80":        "no port that could be bound otherwise",
		"127.0.0.1%a/b:80:80":              `"a/b" is not the name of an interface`,
		"127.0.0.1%0123456789012345:80:80": "is not the name of an interface",
		"send-proxy-v3:80:80":              "forward",
		"tcp:send-proxy:80:80":             "forward",
	} {
		_, err := ParseForward(text)
		require.ErrorContains(t, err, want, text)
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
	f.Add("if-free:freebind:udp:[::]%eth0:1-9:1-9")
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
