package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/porttest"
)

// audited is a configuration whose guest's doings go to a queue.
func audited(t *testing.T, texts ...string) (*audit.Recorder, func(*nat.Config)) {
	log := audit.NewRecorder(64, make(chan struct{}, 1), nil)
	return log, func(c *nat.Config) {
		c.Audit = func() *audit.Recorder { return log }
		flags(t, c, texts...)
	}
}

// recorded returns what is in the queue, of which the time is not looked at.
func recorded(log *audit.Recorder) []audit.Entry {
	into := make([]audit.Entry, 64)
	into = into[:log.Take(into)]
	for i := range into {
		into[i].Time = into[0].Time
	}
	return into
}

func TestDenialsAreRecorded(t *testing.T) {
	log, config := audited(t, "-198.51.100.0/24")
	b := newBench(t, setup{config: config})
	b.Resolve()
	c := b.Dial(at("198.51.100.7:80"))
	b.Until("a connection is reset", func() bool { return c.State == porttest.Refused })
	b.SendDatagram(porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("10.0.2.2:443"), Payload: []byte("hello")})
	b.told()
	b.echo("169.254.169.254", 1, 1, nil)
	b.told()

	all := recorded(log)
	require.Len(t, all, 3)
	for i, want := range []struct {
		verdict, to string
		proto       uint8
		host        bool
	}{{"denied", "198.51.100.7:80", 6, false}, {"closed", "10.0.2.2:443", 17, true}, {"unlisted", "169.254.169.254:0", 1, false}} {
		e := all[i]
		require.Equal(t, audit.Denied, e.Kind)
		require.Equal(t, want.verdict, e.Verdict)
		require.Equal(t, netip.MustParseAddrPort(want.to), e.To)
		require.Equal(t, want.proto, e.Proto)
		require.Equal(t, want.host, e.IsHost)
		require.Equal(t, netip.MustParseAddr("10.0.2.15"), e.From.Addr())
	}
}

func TestAConnectionIsRecordedWhenItBeginsAndWhenItHasEnded(t *testing.T) {
	log, config := audited(t)
	b := newBench(t, setup{config: config})
	c, peer := b.connect()
	c.Send([]byte("hello"))
	b.Until("the host has it", func() bool { return b.onlyFlow().FromGuest == 5 })
	_, err := peer.Write([]byte("hello, guest"))
	require.NoError(t, err)
	b.Until("the guest has it", func() bool { return b.onlyFlow().ToGuest == 12 })
	begun := recorded(log)
	require.Len(t, begun, 1)
	require.Equal(t, audit.Begun, begun[0].Kind)
	require.Equal(t, "allowed", begun[0].Verdict)
	require.Equal(t, audit.NoRule, begun[0].Rule)

	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	b.Until("it is over", func() bool { return len(b.port.Snapshot(0).Flows) == 0 })
	ended := recorded(log)
	require.Len(t, ended, 1)
	require.Equal(t, audit.Ended, ended[0].Kind)
	require.Equal(t, begun[0].To, ended[0].To)
	require.Equal(t, begun[0].From, ended[0].From)
	require.EqualValues(t, 5, ended[0].FromGuest)
	require.EqualValues(t, 12, ended[0].ToGuest)
	require.Equal(t, "ended_by_host", ended[0].Detail)
	require.Positive(t, ended[0].Duration)
}
