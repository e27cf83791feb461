package dhcp4_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dhcp4"
)

// recorded is a message that a client of the field has really sent.
type recorded struct {
	kind string
	b    []byte
}

// readRecorded reads the messages of a client.
func readRecorded(t testing.TB, file string) (messages []recorded) {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var m recorded
		var text string
		_, err := fmt.Sscan(lines.Text(), &m.kind, &text)
		require.NoError(t, err)
		m.b, err = hex.DecodeString(text)
		require.NoError(t, err)
		messages = append(messages, m)
	}
	return messages
}

// recordings are the files of messages.
func recordings(t testing.TB) []string {
	files, err := filepath.Glob("testdata/clients/*.txt")
	require.NoError(t, err)
	require.Len(t, files, 5)
	return files
}

// Each client of the field is offered the guest's address, is given it, and learns all that it has asked for.
func TestClientsOfTheFieldAreAnswered(t *testing.T) {
	for _, file := range recordings(t) {
		for i, m := range readRecorded(t, file) {
			t.Run(fmt.Sprintf("%s:%d", filepath.Base(file), i+2), func(t *testing.T) {
				cfg := config()
				cfg.Search = func() []string { return []string{"lab.example"} }
				answer, answered := server(t, cfg).Answer(0, m.b)
				if m.kind == "release" {
					require.False(t, answered)
					return
				}
				require.True(t, answered)
				asked, err := dhcpv4.FromBytes(m.b)
				require.NoError(t, err)
				requireTold(t, asked, answer)
			})
		}
	}
}

// requireTold checks the answer to a client that asks for an address.
func requireTold(t *testing.T, asked *dhcpv4.DHCPv4, answer dhcp4.Answer) {
	t.Helper()
	a, err := dhcpv4.FromBytes(answer.Message)
	require.NoError(t, err)
	want := dhcpv4.MessageTypeAck
	if asked.MessageType() == dhcpv4.MessageTypeDiscover && !asked.Options.Has(dhcpv4.OptionRapidCommit) {
		want = dhcpv4.MessageTypeOffer
	}
	require.Equal(t, want, a.MessageType())
	require.True(t, a.YourIPAddr.Equal(guestIP))
	require.Equal(t, asked.TransactionID, a.TransactionID)
	known := []uint8{1, 3, 6, 12, 15, 26, 28, 119} // what there is to tell
	for _, code := range known {
		if asked.IsOptionRequested(dhcpv4.GenericOptionCode(code)) {
			require.Contains(t, a.Options, code)
		}
	}
	for _, code := range []uint8{1, 3, 6} {
		require.Contains(t, a.Options, code, "no host can do without")
	}
}
