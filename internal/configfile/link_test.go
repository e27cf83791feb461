package configfile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/netem"
)

const withLinks = `guests:
  - socket-path: /run/a
    link: none
  - socket-path: /run/b
    link: "rate=12mbit,delay=35ms"
  - socket-path: /run/c
  - socket-path: /run/d
    link: "in:loss=1%,seed=5"
    stub:
`

// Each guest has its own, whether it shares its network or not.
func TestLinksOfGuestsAreReadAndWritten(t *testing.T) {
	c := parsed(t, strings.Replace(withLinks, "    link: none\n", "", 1)+"nat:\n")
	lte := netem.Presets()[2].Link
	require.Equal(t, []netem.Link{{}, lte}, c.FrontEnds.Links)
	require.Equal(t, "in:loss=1%,seed=5", c.Guests[0].Link.String())
	text, err := Marshal(c, Short)
	require.NoError(t, err)
	require.Equal(t, withLinks+"nat:\n", string(text))
	require.Empty(t, Diff(c, parsed(t, string(text))))
	_, err = Parse("f", []byte("guests:\n  - socket-path: /run/a\n    link: loss=1\nnat:\n"), nil)
	require.ErrorContains(t, err, "f:3:11: link loss=1: loss=\"1\": want a share of frames with %, as in 1% or 0.5%")
}

// What vring ctl link has changed is kept, for guests of either kind.
func TestLinksOfGuestsAreKept(t *testing.T) {
	start, now := parsed(t, withLinks+"nat:\n"), parsed(t, withLinks+"nat:\n")
	now.FrontEnds.Links = []netem.Link{netem.Presets()[0].Link}
	now.Guests[0].Link = netem.Link{}
	text, err := StateOf(start, now, nil).Marshal()
	require.NoError(t, err)
	s, err := ParseState("state", text)
	require.NoError(t, err)
	is, dropped := s.Apply(start)
	require.Empty(t, dropped)
	require.Empty(t, Diff(now, &is), "%s", text)
	require.True(t, is.Guests[0].Link.IsZero())
	require.Equal(t, now.FrontEnds.Links, is.FrontEnds.Links)
}
