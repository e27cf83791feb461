package integration

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/segments"
)

// So many runs are sent, of so many datagrams of so many bytes. A run is less than a socket's buffer holds.
const (
	runs         = 8
	runDatagrams = 40
	runSize      = 1200
	allDatagrams = runs * runDatagrams
)

// answerRuns starts a server at an address of the host that sends each run back by one system call.
func answerRuns(t *testing.T, address string) (port int) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(address)})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() { _ = segments.Answer(conn, runDatagrams, runSize) }()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// acknowledged finds the features in the line that tells that a guest's driver is up.
var acknowledged = regexp.MustCompile(`msg="guest driver is up" features="?\[([^\]]*)\]`)

// hasUSO reports whether the guest's driver sends runs of datagrams as one frame, and takes them so. It does all of that or
// nothing.
func (l *lab) hasUSO() bool {
	l.t.Helper()
	line := acknowledged.FindStringSubmatch(l.vring.Output())
	require.NotNil(l.t, line, "the log does not tell that the driver is up")
	has := strings.Contains(line[1], "USO")
	for _, feature := range []string{"HOST_USO", "GUEST_USO4", "GUEST_USO6"} {
		require.Equal(l.t, has, strings.Contains(line[1], feature), "%s in %s", feature, line[1])
	}
	return has
}

// requireRunsOut lets the guest ask a server for its runs back: all come whole, and each is one frame each way if the driver
// can, but as many as it has datagrams otherwise.
func (l *lab) requireRunsOut(server string) {
	l.t.Helper()
	frames := l.framesOf(func() {
		var echoes proto.Echoes
		l.do(&echoes, "udp-runs", server, runs, runDatagrams, runSize)
		require.Equal(l.t, proto.Echoes{Sent: allDatagrams, Answered: allDatagrams}, echoes)
	})
	l.requireFrames("from the guest", frames.fromGuest)
	l.requireFrames("to the guest", frames.toGuest)
}

// requireRunsIn sends runs through a forward to the guest, which sends their datagrams back one by one.
func (l *lab) requireRunsIn() {
	l.t.Helper()
	frames := l.framesOf(func() {
		for number := range runs {
			answered, err := segments.Ask(l.udpIn.(*net.UDPConn), segments.Run{Number: number, Count: runDatagrams, Size: runSize})
			require.NoError(l.t, err)
			require.Equal(l.t, runDatagrams, answered)
		}
	})
	l.requireFrames("to the guest", frames.toGuest)
}

// requireFrames checks how many frames have carried all runs. A few more are those of others, and of runs that were lost.
func (l *lab) requireFrames(way string, n uint64) {
	l.t.Helper()
	l.t.Logf("%d datagrams %s in %d frames", allDatagrams, way, n)
	if l.hasUSO() {
		require.Less(l.t, n, uint64(allDatagrams/4), way)
		return
	}
	require.GreaterOrEqual(l.t, n, uint64(allDatagrams), way)
}

// frameCount is how many frames have passed each way.
type frameCount struct{ fromGuest, toGuest uint64 }

// framesOf counts the frames that pass while something is done: those of the guest as vring counts them, the others as the
// guest does.
func (l *lab) framesOf(do func()) frameCount {
	l.t.Helper()
	count := func() frameCount {
		var link proto.Link
		l.do(&link, "link", card)
		return frameCount{l.vring.counters().of(l.t, "frames_in"), link.ReceivedPackets}
	}
	before := count()
	do()
	after := count()
	return frameCount{after.fromGuest - before.fromGuest, after.toGuest - before.toGuest}
}
