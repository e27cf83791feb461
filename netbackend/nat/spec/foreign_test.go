package spec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// write is what an error says to write.
func write(t *testing.T, err error, option string) (options []string) {
	t.Helper()
	require.Error(t, err)
	require.NotContains(t, err.Error(), "\n")
	_, said, found := strings.Cut(err.Error(), "; write "+option)
	require.True(t, found, err.Error())
	said, _, _ = strings.Cut(said, ";")
	return strings.Split(said, " "+option)
}

func TestAForwardOfAnotherProgramIsToldHowItIsWrittenHere(t *testing.T) {
	for text, want := range map[string]string{
		// QEMU
		"hostfwd=tcp::8080-:80":                 "8080:80",
		"tcp::8080-:80":                         "8080:80",
		"udp::53-:5353":                         "udp:53:5353",
		"tcp:127.0.0.1:2222-10.0.2.15:22":       "127.0.0.1:2222:10.0.2.15:22",
		"hostfwd=udp:0.0.0.0:5353-10.0.2.16:53": "udp:0.0.0.0:5353:10.0.2.16:53",
		"tcp:[::1]:8080-[fd00:10:0:2::15]:80":   "[::1]:8080:[fd00:10:0:2::15]:80",
		// docker and podman
		"8080:80/tcp":           "8080:80",
		"8053:53/udp":           "udp:8053:53",
		"127.0.0.1:8053:53/UDP": "udp:127.0.0.1:8053:53",
		"80":                    "80:80",
		"53/udp":                "udp:53:53",
		"6000-6009":             "6000-6009:6000-6009",
		// ssh
		"localhost:8080:80":   "127.0.0.1:8080:80",
		"8080:localhost:80":   "8080:80",
		"*:8080:80":           "0.0.0.0:8080:80",
		"*:8080:localhost:80": "0.0.0.0:8080:80",
		// passt
		"8080:80,2222:22":   "8080:80 -p 2222:22",
		"8080,udp:53":       "8080:8080 -p udp:53:53",
		"192.0.2.1/8080:80": "192.0.2.1:8080:80",
		"192.0.2.1%eth0/22": "192.0.2.1:22:22",
		"::1/8080:80":       "[::1]:8080:80",
		// IPv6 without brackets
		"::1:8080:80":                     "[::1]:8080:80",
		"8080:fd00:10:0:2::15:80":         "8080:[fd00:10:0:2::15]:80",
		"udp:::1:8080:fd00:10:0:2::15:80": "udp:[::1]:8080:[fd00:10:0:2::15]:80",
		"[::1:8080:80":                    "[::1]:8080:80",
		// order and case
		"GATE:8080:80":          "gate:8080:80",
		"TCP:8080:80":           "tcp:8080:80",
		"tcp:gate:8080:80":      "gate:tcp:8080:80",
		"gate:8080:80/tcp":      "gate:8080:80",
		" 8080:80":              "8080:80",
		"Unix:/run/web.sock:80": "unix:/run/web.sock:80",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := ParseForward(text)
			options := write(t, err, "-p ")
			require.Equal(t, strings.Split(want, " -p "), options)
			for _, o := range options {
				_, err := ParseForward(o)
				require.NoError(t, err, "what is to be written can be read")
			}
		})
	}
}

func TestWhoeverKnowsQEMUIsToldThatForwardsListenOnLoopback(t *testing.T) {
	_, err := ParseForward("tcp::8080-:80")
	require.ErrorContains(t, err, "vring listens on 127.0.0.1 unless an address is given, as in 0.0.0.0:8080:80")
	_, err = ParseForward("guestfwd=tcp:10.0.2.100:80-tcp:127.0.0.1:80")
	require.ErrorContains(t, err, "write --allow-host tcp:PORT")
}

func TestAHostServiceOfAnotherProgramIsToldHowItIsWrittenHere(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:5432":     "tcp:5432",
		"tcp:localhost:5432": "tcp:5432",
		"5432/tcp":           "tcp:5432",
		"53/udp":             "udp:53",
		"UDP:53":             "udp:53",
		"*:80":               "tcp:80",
		"::1:5432":           "tcp:[::1]:5432",
		"udp:2001:db8::1:53": "udp:[2001:db8::1]:53",
	} {
		_, err := ParseHostServices(text)
		options := write(t, err, "--allow-host ")
		require.Equal(t, []string{want}, options, text)
		_, err = ParseHostServices(options[0])
		require.NoError(t, err)
	}
}

func TestARuleOfAnotherProgramIsToldHowItIsWrittenHere(t *testing.T) {
	for text, want := range map[string]string{
		"443":                         "0.0.0.0/0:443 --deny [::/0]:443",
		"tcp:443":                     "tcp:0.0.0.0/0:443 --deny tcp:[::/0]:443",
		"25/tcp":                      "tcp:0.0.0.0/0:25 --deny tcp:[::/0]:25",
		"any":                         "0.0.0.0/0 --deny ::/0",
		"udp:*:53":                    "udp:0.0.0.0/0:53 --deny udp:[::/0]:53",
		"192.0.2.0/24:80/tcp":         "tcp:192.0.2.0/24:80",
		"10.0.0.0/255.0.0.0":          "10.0.0.0/8",
		"tcp:10.1.2.3/255.255.0.0:80": "tcp:10.1.0.0/16:80",
	} {
		_, err := ParseRule(text, false)
		options := write(t, err, "--deny ")
		require.Equal(t, strings.Split(want, " --deny "), options, text)
		for _, o := range options {
			_, err = ParseRule(o, false)
			require.NoError(t, err, o)
		}
	}
	_, err := ParseRule("10.0.0.0/8,192.168.0.0/16", true)
	require.ErrorContains(t, err, "write --allow once for each")
}

func TestANetworkOfAnotherProgramIsToldHowItIsWrittenHere(t *testing.T) {
	for text, want := range map[string]string{
		"net=10.0.3.0/24":        "10.0.3.0/24",
		"10.0.3.0":               "10.0.3.0/24",
		"10.0.3.5/24":            "10.0.3.0/24",
		"10.0.3.0/255.255.255.0": "10.0.3.0/24",
		"10.0.3.0/255.0.255.0":   "",
		"ten":                    "",
		"10.0.3.0/33":            "",
		"fd00::1/x":              "",
	} {
		require.Equal(t, want, CorrectNetwork(text, 24), text)
	}
}
