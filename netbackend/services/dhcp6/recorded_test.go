package dhcp6_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/stretchr/testify/require"
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
	require.Len(t, files, 3)
	return files
}

// Each client of the field gets the guest's address, at once if it knows how to, and may give it back.
func TestClientsOfTheFieldAreAnswered(t *testing.T) {
	for _, file := range recordings(t) {
		for i, m := range readRecorded(t, file) {
			t.Run(fmt.Sprintf("%s:%d", filepath.Base(file), i+2), func(t *testing.T) {
				asked, err := dhcpv6.MessageFromBytes(m.b)
				require.NoError(t, err)
				r := answer(t, asked)
				want := dhcpv6.MessageTypeReply
				if m.kind == "solicit" && asked.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
					want = dhcpv6.MessageTypeAdvertise
				}
				require.Equal(t, want, r.MessageType)
				if m.kind == "release" {
					require.Equal(t, "Success", r.Options.Status().StatusCode.String())
					return
				}
				require.NotNil(t, r.Options.OneIANA())
				require.True(t, address.Equal(r.Options.OneIANA().Options.OneAddress().IPv6Addr))
				require.NotEmpty(t, r.Options.DNS())
				require.NotNil(t, r.GetOneOption(dhcpv6.OptionDomainSearchList))
			})
		}
	}
}
