package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/uml"
)

// The guest's network card, and the ports of its services.
const (
	card         = "eth0"
	guestTCPPort = 5001
	guestUDPPort = 5002
	// guestFromPort is where the guest's datagrams come from, so that they are one flow.
	guestFromPort = 5003
)

// testGuest is a Linux guest on either front end.
type testGuest struct {
	*process.Process
	*guest.Console
	qemu *qemu.Machine // nil on User-mode Linux
}

// startGuest starts a guest on a vhost-user socket; it has not booted yet.
func startGuest(ctx context.Context, t *testing.T, kind kind, socket string) *testGuest {
	initrd := built.image(kind.userland, kind.uml, kind.queues > 1)
	if kind.uml {
		return startUML(ctx, t, uml.Options{Userland: kind.userland, Initrd: initrd, Socket: socket, BESS: kind.frontEnd != ""})
	}
	opt := qemu.Options{
		Userland: kind.userland, Initrd: initrd, Socket: socket, Reconnect: true, Listen: kind.listens, Queues: kind.queues,
		MemorySlots: kind.slots, KernelArgs: kind.kernelArgs(),
	}
	if kind.frontEnd != "" {
		opt.Socket, opt.Netdev, opt.Card = "", qemu.StreamNetdev(kind.userland, socket), kind.card
	}
	if kind.device != "" {
		opt.Device = []string{kind.device}
	}
	return startQEMU(ctx, t, opt)
}

// startUML starts User-mode Linux in a directory of its own.
func startUML(ctx context.Context, t *testing.T, opt uml.Options) *testGuest {
	opt.Dir = shortDir(t)
	m, err := uml.Start(ctx, opt)
	require.NoError(t, err)
	return endWithTest(t, &testGuest{Process: m.Process, Console: m.Console})
}

// startQEMU starts QEMU in a directory of its own.
func startQEMU(ctx context.Context, t *testing.T, opt qemu.Options) *testGuest {
	opt.Dir = shortDir(t)
	m, err := qemu.Start(ctx, opt)
	require.NoError(t, err)
	return endWithTest(t, &testGuest{Process: m.Process, Console: m.Console, qemu: m})
}

// endWithTest ends a guest at the end of the test, and tells what it has printed if the test has failed.
func endWithTest(t *testing.T, g *testGuest) *testGuest {
	t.Cleanup(func() {
		require.NoError(t, g.Kill())
		if t.Failed() {
			t.Logf("the guest printed at last:\n%s", lastOf(g.Output()))
		}
	})
	return g
}

// lastOf returns the end of a guest's output.
func lastOf(output string) string {
	const enough = 8 << 10
	return output[max(0, len(output)-enough):]
}

// lab is vring with a guest, services on the host that the guest may use, and forwards into the guest.
type lab struct {
	t     *testing.T
	ctx   context.Context
	kind  kind
	vring *daemon
	guest *testGuest

	tcp        *tcpService // sends labBytes
	udpEcho    int         // port on the host
	forwardTCP int         // port on the host that leads to guestTCPPort
	forwardUDP int         // port on the host that leads to guestUDPPort
	udpIn      net.Conn    // a client of forwardUDP: one flow, however often it is used
}

// labBytes is what each side sends in the small transfers that show that the network is there: at MTU 1500 more than
// ten times the receive buffers of a ring.
const labBytes = 4 << 20

// newLab starts everything and waits until the guest has its lease. args are more arguments for vring.
func newLab(t *testing.T, kind kind, args ...string) *lab {
	return newLabWith(t, kind, startVring, args...)
}

// newLabWith is newLab with another way of starting vring.
func newLabWith(t *testing.T, kind kind, start starter, args ...string) *lab {
	l := &lab{t: t, ctx: limited(t), kind: kind, tcp: serveTCP(t, labBytes), udpEcho: serveUDPEcho(t),
		forwardTCP: freePort(t), forwardUDP: freePort(t)}
	l.vring = start(t, "nat", append([]string{
		"--allow-host", fmt.Sprintf("tcp:%d", l.tcp.Port),
		"--allow-host", fmt.Sprintf("udp:%d", l.udpEcho),
		"-p", fmt.Sprintf("127.0.0.1:%d:%d", l.forwardTCP, guestTCPPort),
		"-p", fmt.Sprintf("udp:127.0.0.1:%d:%d", l.forwardUDP, guestUDPPort),
	}, append(kind.vring(), args...)...)...)
	l.udpIn = dial(l.ctx, t, "udp4", l.forwardUDP)
	t.Cleanup(func() { require.NoError(t, l.udpIn.Close()) })
	l.startGuest()
	return l
}

// startGuest starts a guest and waits until it has its lease.
func (l *lab) startGuest() {
	l.guest = startGuest(l.ctx, l.t, l.kind, l.vring.Socket)
	l.boot()
}

// boot waits until the guest has booted, and configures it.
func (l *lab) boot() proto.Lease {
	_, err := l.guest.WaitBoot(l.ctx)
	require.NoError(l.t, err)
	require.NoError(l.t, l.guest.Start("udp-echo", guestUDPPort).Event(l.ctx, nil))
	return l.lease()
}

// lease gets the guest a lease.
func (l *lab) lease() proto.Lease {
	var lease proto.Lease
	l.do(&lease, "dhcp", l.kind.link())
	return lease
}

// do runs a command in the guest.
func (l *lab) do(result any, command string, args ...any) {
	l.t.Helper()
	require.NoError(l.t, l.guest.Do(l.ctx, result, command, args...))
}

// requireNetwork proves that the network works in both directions, and with more frames than a ring has descriptors,
// so that a ring that does not get its descriptors back would come to a stop: 4 MiB each way fill over 2800 receive
// buffers, and the datagrams use 512 more descriptors of each ring, whose size is 256.
func (l *lab) requireNetwork() {
	l.t.Helper()
	l.transferOut()
	l.transferIn()
	l.requireDatagrams()
}

// requireDatagrams is requireNetwork for UDP alone.
func (l *lab) requireDatagrams() {
	l.t.Helper()
	const datagrams = 512
	var echoes proto.Echoes
	l.do(&echoes, "udp-dial", viaGateway(l.udpEcho), 1, datagrams, guestFromPort)
	require.Equal(l.t, proto.Echoes{Sent: datagrams, Answered: datagrams}, echoes)
	for size := 1; size <= datagrams; size += 64 {
		require.True(l.t, echoed(l.udpIn, bytes.Repeat([]byte{byte(size)}, size)), "datagram of %d bytes into the guest", size)
	}
}

// transferOut lets the guest connect to the host's server.
func (l *lab) transferOut() {
	l.t.Helper()
	var got proto.Transfer
	l.do(&got, "tcp-dial", viaGateway(l.tcp.Port), labBytes, guestSeed)
	requirePattern(l.t, hostSeed, labBytes, got)
	requirePattern(l.t, guestSeed, labBytes, l.tcp.next(l.ctx, l.t))
}

// transferIn connects to a server in the guest, through the forward.
func (l *lab) transferIn() {
	l.t.Helper()
	l.transferBy("tcp4", local(l.forwardTCP))
}

// transferBy is transferIn by another way into the guest, and returns what the guest has seen of it.
func (l *lab) transferBy(network, address string) (got proto.Transfer) {
	l.t.Helper()
	return l.transferOn(func() io.ReadWriteCloser { return dialAt(l.ctx, l.t, network, address) })
}

// transferOn is transferIn on a connection that dial makes. Its write side can be closed alone.
func (l *lab) transferOn(dial func() io.ReadWriteCloser) (got proto.Transfer) {
	l.t.Helper()
	listen := l.listen(labBytes)
	done := exchange(dial(), labBytes)
	require.NoError(l.t, done.err)
	requirePattern(l.t, guestSeed, labBytes, done.got)
	require.NoError(l.t, listen.Event(l.ctx, &got))
	requirePattern(l.t, hostSeed, labBytes, got)
	require.NoError(l.t, listen.Wait(l.ctx, nil))
	return got
}

// connectIn starts a server in the guest that sends n bytes on one connection, and connects to it.
func (l *lab) connectIn(n int64) (*guest.Call, net.Conn) {
	l.t.Helper()
	return l.connectBy("tcp4", local(l.forwardTCP), n)
}

// connectBy is connectIn by another way into the guest.
func (l *lab) connectBy(network, address string, n int64) (*guest.Call, net.Conn) {
	l.t.Helper()
	listen := l.listen(n)
	return listen, dialAt(l.ctx, l.t, network, address)
}

// listen starts a server in the guest that sends n bytes on one connection.
func (l *lab) listen(n int64) *guest.Call {
	l.t.Helper()
	listen := l.guest.Start("tcp-listen", guestTCPPort, n, guestSeed)
	require.NoError(l.t, listen.Event(l.ctx, nil))
	return listen
}

// requirePattern checks what came over a connection.
func requirePattern(t *testing.T, seed uint64, n int64, got proto.Transfer) {
	t.Helper()
	require.Equal(t, n, got.Bytes)
	require.Equal(t, proto.PatternSum(seed, n), got.SHA256)
}
