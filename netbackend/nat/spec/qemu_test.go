package spec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAForwardIsReadAsQEMUWritesIt(t *testing.T) {
	for text, want := range map[string]string{
		"tcp::2222-:22":                   "tcp:0.0.0.0:2222:22",
		"::2222-:22":                      "tcp:0.0.0.0:2222:22",
		"udp:127.0.0.1:53-10.0.2.20:5353": "udp:127.0.0.1:53:10.0.2.20:5353",
		"tcp:[::1]:80-:8080":              "tcp:[::1]:80:8080",
		"unix:/run/a-1.sock-:22":          "unix:/run/a-1.sock:22",
		"unix:/run/a.sock-10.0.2.20:22":   "unix:/run/a.sock:10.0.2.20:22",
	} {
		t.Run(text, func(t *testing.T) {
			f, err := ParseQEMUForward(text)
			require.NoError(t, err)
			require.Equal(t, want, f.String())
		})
	}
}

func TestAForwardThatQEMUDoesNotReadIsRefused(t *testing.T) {
	for _, text := range []string{"", "2222:22", "tcp:2222-22", "tcp::2222", "tcp::70000-:22", "sctp::1-:2", "unix:/run/a.sock", "unix:-:22", "tcp:999.0.0.1:1-:2", "tcp::1-:2,tcp::3-:4"} {
		_, err := ParseQEMUForward(text)
		require.Error(t, err, text)
	}
}
