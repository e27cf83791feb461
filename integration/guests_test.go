package integration

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Two guests of one vring: each has its own address and forwards, neither reaches the other, and one goes on as if
// nothing had happened when the other is killed.
func TestGuestsOfOneProcessAreApart(t *testing.T) {
	t.Parallel()
	socket, forward := filepath.Join(shortDir(t), "second.sock"), freePort(t)
	first := newLab(t, onUML(userland.Forky), "--socket-path", socket, "-p", fmt.Sprintf("127.0.0.1:%d:10.0.2.16:%d", forward, guestTCPPort))
	second := *first
	second.forwardTCP = forward
	second.guest = startGuest(second.ctx, t, onUML(userland.Forky), socket)
	require.Equal(t, "10.0.2.16/24", second.boot().Address)

	first.transferOut()
	first.transferIn()
	second.transferOut()
	second.transferIn()

	var echoes proto.Echoes // of the service on each guest
	second.do(&echoes, "udp-dial", "10.0.2.15:"+strconv.Itoa(guestUDPPort), 1, 1, guestFromPort)
	require.Equal(t, proto.Echoes{Sent: 1, Lost: []int{1}}, echoes, "the other guest is out of reach")

	held, conn := second.connectIn(1)
	defer conn.Close()
	_, err := io.ReadFull(conn, make([]byte, 1)) // of the guest, so the connection is through
	require.NoError(t, err)
	require.NoError(t, first.vring.Signal(syscall.SIGUSR1))
	flow := regexp.MustCompile(`guest 10\.0\.2\.16: (?:.*\n)+?  tcp +in +10\.0\.2\.16:5001 .* (open|guest-closed) `) // its FIN follows its byte
	require.Eventually(t, func() bool { return flow.MatchString(first.vring.Output()) }, soon, 5*time.Millisecond, "no status")

	require.NoError(t, first.guest.Kill())
	closeBoth(t, conn) // still the connection from before
	require.NoError(t, held.Wait(second.ctx, new(proto.Transfer)))
	second.transferOut()
	second.transferIn()
}
