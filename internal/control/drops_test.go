package control

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/drops"
)

func TestDropsOfAGuestAreAnsweredByTheirReason(t *testing.T) {
	b := newBench(t, 1)
	path := "/v1/guests/" + b.guest() + "/drops"
	for _, query := range []string{"", "?reason=denied", "?reason=ended_no_guest", "?reason=frames_on_disabled_rings", "?reason=full", "?reason=receive_buffers_empty"} {
		status, text := b.ask("GET", path+query, "")
		require.Equal(t, 200, status, text)
		var all []api.Drop
		require.NoError(t, json.Unmarshal([]byte(text), &all))
		require.NotNil(t, all)
		require.Empty(t, all)
	}
	require.Contains(t, b.refuse(400, "GET", path+"?reason=bad_luck", "").Text, `there is no reason "bad_luck"`)
	require.Contains(t, b.refuse(400, "GET", path+"?reason=denied&reason=malformed", "").Text, "reason is there 2 times")
	require.Contains(t, b.refuse(400, "GET", path+"?why=denied", "").Text, `there is no "why"; there is reason`)
	require.Contains(t, b.refuse(404, "GET", "/v1/guests/nobody/drops", "").Text, `there is no guest "nobody"`)
}

func TestADropIsToldAsItIsKnown(t *testing.T) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 5e6, time.UTC)
	guest, web := netip.MustParseAddrPort("10.0.2.15:40000"), netip.MustParseAddrPort("192.0.2.1:443")
	require.Equal(t, api.Drop{
		Time: "2026-07-01T12:00:00.005Z", Pair: 1, Reason: "denied", Meaning: "Frames to what the policy closes.", Detail: "--deny 192.0.2.0/24", Proto: "tcp",
		Src: "10.0.2.15:40000", Dst: "192.0.2.1:443", Length: 60, LeftOut: 7,
	}, dropOf(&daemon.Drop{At: at, Pair: 1, Drop: drops.Drop{
		Reason: "denied", Detail: "--deny 192.0.2.0/24", Left: 7, Frame: drops.Frame{EtherType: 0x0800, Proto: 6, Src: guest, Dst: web, Length: 60},
	}}))
	for _, c := range []struct {
		frame drops.Frame
		want  [3]string
	}{
		{drops.Frame{}, [3]string{}},
		{drops.Frame{EtherType: 0x0806}, [3]string{"arp"}},
		{drops.Frame{EtherType: 0x88cc}, [3]string{"ethertype 0x88cc"}},
		{drops.Frame{EtherType: 0x86dd, Proto: 58, Src: netip.MustParseAddrPort("[fd00::15]:0"), Dst: netip.MustParseAddrPort("[fd00::2]:0")}, [3]string{"icmp", "fd00::15", "fd00::2"}},
		{drops.Frame{EtherType: 0x0800, Proto: 17, Src: guest, Dst: web}, [3]string{"udp", "10.0.2.15:40000", "192.0.2.1:443"}},
		{drops.Frame{EtherType: 0x0800, Proto: 47}, [3]string{"ip 47"}},
	} {
		d := dropOf(&daemon.Drop{Drop: drops.Drop{Reason: "no_room", ToGuest: true, Frame: c.frame}})
		require.Equal(t, c.want, [3]string{d.Proto, d.Src, d.Dst})
		require.True(t, d.ToGuest)
	}
}
