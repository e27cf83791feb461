package labgraph

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// textsOf reads a picture as XML, and returns its texts.
func textsOf(t *testing.T, svg []byte) (texts []string) {
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts = append(texts, string(text))
		}
	}
}

func TestAPictureHasGuestsNetworksAndTheHost(t *testing.T) {
	svg := SVG(&Lab{Name: "two", Uplinks: map[string][]string{"lan": {"vxlan://192.0.2.2/42"}}, Guests: []Guest{
		{Name: "web", Switch: "lan", NAT: true, Forwards: []string{"tcp:127.0.0.1:8080:80"}, Up: true, Addresses: []string{"10.0.2.15"}},
		{Name: "db", Switch: "lan", VLANs: "VLAN 10", Link: "lte"},
		{Name: "alone", Own: true, Device: "tap0"},
	}})
	texts := textsOf(t, svg)
	for _, want := range []string{"two", "switch lan, vxlan://192.0.2.2/42", "guests on no switch", "host, outside", "web", "10.0.2.15", "tcp:127.0.0.1:8080:80", "VLAN 10", "lte", "TAP device tap0"} {
		require.Contains(t, texts, want)
	}
	require.Equal(t, 1, strings.Count(string(svg), `class="box up"`))
	require.Equal(t, 1, strings.Count(string(svg), `class="wire slow"`))
	require.Contains(t, string(svg), "prefers-color-scheme: dark")
}

func TestALabThatLeadsNowhereHasNoHost(t *testing.T) {
	require.NotContains(t, textsOf(t, SVG(&Lab{Name: "x", Guests: []Guest{{Name: "a", Switch: "lan"}}})), "host, outside")
}

func TestTextsAreNoMarkup(t *testing.T) {
	svg := SVG(&Lab{Name: `<script>alert("1")</script>`, Guests: []Guest{{Name: "<b>&", Addresses: []string{"\x00\xff</svg>"}}}})
	require.NotContains(t, string(svg), "<script")
	require.Contains(t, textsOf(t, svg), `<script>alert("1")</script>`)
	require.Contains(t, textsOf(t, svg), "<b>&")
}

func TestManyGuestsAreInSeveralRows(t *testing.T) {
	var l Lab
	for i := range 64 {
		l.Guests = append(l.Guests, Guest{Name: fmt.Sprint("guest", i), Switch: "lan"})
	}
	svg := string(SVG(&l))
	require.Equal(t, 64, strings.Count(svg, `class="box"`))
	require.Equal(t, 11+10, strings.Count(svg, `class="net"`), "rows, and what connects them")
	require.Contains(t, svg, fmt.Sprintf(`width="%d"`, 2*margin+trunk+perRow*(boxWidth+gap)-gap))
	textsOf(t, []byte(svg))
}
