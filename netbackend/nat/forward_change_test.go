package nat_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/worker"
)

// parseForward reads a forward of one port.
func parseForward(t testing.TB, text string) spec.Forward {
	t.Helper()
	f, err := spec.ParseForward(text)
	require.NoError(t, err)
	require.EqualValues(t, 1, f.Count)
	return f
}

// bound opens forwards for ChangeForwards.
func bound(t testing.TB, texts ...string) (all []nat.BoundForward) {
	t.Helper()
	for _, text := range texts {
		f := parseForward(t, text)
		socket, err := forward.Listen(&f, 0, nil)
		require.NoError(t, err)
		all = append(all, nat.BoundForward{Forward: f, Socket: socket})
	}
	return all
}

// add gives the guest forwards, and quit takes some away.
func (b *bench) add(texts ...string) {
	b.t.Helper()
	require.NoError(b.t, b.port.ChangeForwards(nil, bound(b.t, texts...), b.Turn))
}

func (b *bench) quit(texts ...string) {
	b.t.Helper()
	var all []spec.Forward
	for _, text := range texts {
		all = append(all, parseForward(b.t, text))
	}
	require.NoError(b.t, b.port.ChangeForwards(all, nil, b.Turn))
}

func TestAStreamByAForwardThatStaysIsWholeWhileOthersComeAndGo(t *testing.T) {
	b, dial := newForward(t, setup{})
	host, unixSocket := porttest.FreePort(t), filepath.Join(shortDir(t), "s")
	kinds := []string{
		fmt.Sprintf("%s:80", host), fmt.Sprintf("%s:81", host), fmt.Sprintf("gate:%s:80", host),
		fmt.Sprintf("udp:%s:53", host), fmt.Sprintf("udp:0.0.0.0:%d:53", host.Port()), fmt.Sprintf("unix:%s:80", unixSocket),
		fmt.Sprintf("send-proxy:%s:80", host), fmt.Sprintf("accept-proxy:%s:80", host),
	}
	l := b.Listen(80)
	client := dial()
	guest := l.Accept()
	const size = 4 << 20
	up, down := noise(size), noise(size+1)
	written := make(chan error, 1)
	go func() {
		_, err := client.Write(down)
		written <- err
	}()
	read := make(chan []byte, 1)
	go func() { read <- readAtLeast(client, size) }()
	guest.Send(up)
	before := openFiles(t)
	for i := range 1000 {
		kind := kinds[i%len(kinds)]
		b.add(kind)
		require.Len(t, b.port.Forwards(), 2)
		b.quit(kind)
	}
	require.Equal(t, before, openFiles(t))
	require.NoFileExists(t, unixSocket)
	guest.WaitFor(size + 1)
	requireSame(t, down, guest.Received())
	var got []byte
	b.Until("all has arrived", func() bool {
		select {
		case got = <-read:
			return true
		default:
			return false
		}
	})
	requireSame(t, up, got)
	require.NoError(t, <-written)
	require.Len(t, b.port.Forwards(), 1)
}

// readAtLeast reads n bytes, or as many as there are.
func readAtLeast(c net.Conn, n int) []byte {
	got := make([]byte, n)
	for read := 0; read < n; {
		some, err := c.Read(got[read:])
		if read += some; err != nil {
			return got[:read]
		}
	}
	return got
}

// shortDir makes a directory whose path leaves room for a socket's name, which testing's own may not.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestAForwardThatIsAddedLeadsToTheGuest(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	host, path := porttest.FreePort(t), filepath.Join(shortDir(t), "s")
	b.add(host.String()+":80", "udp:"+host.String()+":53", "unix:"+path+":81", "send-proxy:127.0.0.2:"+fmt.Sprint(host.Port())+":82")
	for _, c := range []struct {
		network, at string
		port        uint16
		head        string
	}{
		{"tcp4", host.String(), 80, ""}, {"unix", path, 81, ""}, {"tcp4", fmt.Sprintf("127.0.0.2:%d", host.Port()), 82, "PROXY TCP4 127.0.0.1 127.0.0.2 "},
	} {
		l := b.Listen(c.port)
		client, err := net.Dial(c.network, c.at)
		require.NoError(t, err)
		defer client.Close()
		guest := l.Accept()
		guest.Send([]byte("hello"))
		require.Equal(t, "hello", string(b.readSome(client, 5)))
		if c.head != "" {
			guest.WaitFor(len(c.head))
			require.Equal(t, c.head, string(guest.Received()[:len(c.head)]))
		}
	}
	client, err := net.Dial("udp4", host.String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte("question"))
	require.NoError(t, err)
	var got *porttest.Datagram
	b.Until("a datagram has come", func() bool {
		for _, d := range b.Datagrams() {
			got = d
		}
		return got != nil
	})
	require.Equal(t, "question", string(got.Payload))
	require.EqualValues(t, 53, got.Dst.Port())
}

func TestAClientThatTheKernelHasConnectedComesThroughAForwardThatQuits(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	host := porttest.FreePort(t)
	b.add(host.String() + ":80")
	l := b.Listen(80)
	client := requireConnects(t, host.String())
	b.quit(host.String() + ":80")
	requireRefused(t, host.String())
	guest := l.Accept()
	guest.Send([]byte("still"))
	require.Equal(t, "still", string(b.readSome(client, 5)))
}

func TestFlowsOfAUDPForwardThatQuitsEndAndItsPortIsFree(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	host := porttest.FreePort(t)
	text := "udp:" + host.String() + ":53"
	client, err := net.Dial("udp4", host.String())
	require.NoError(t, err)
	defer client.Close()
	for range 3 {
		b.add(text)
		_, err = client.Write([]byte("question"))
		require.NoError(t, err)
		var got *porttest.Datagram
		b.Until("the question has come", func() bool {
			for _, d := range b.Datagrams() {
				got = d
			}
			return got != nil
		})
		b.SendDatagram(porttest.Datagram{Src: got.Dst, Dst: got.Src, Payload: []byte("answer")})
		require.Equal(t, "answer", string(b.readSome(client, 6)))
		require.Equal(t, 1, flowsOf(b))
		b.quit(text)
		require.Zero(t, flowsOf(b))
		other, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(host))
		require.NoError(t, err, "the port is free")
		require.NoError(t, other.Close())
	}
}

// flowsOf counts flows that are not over.
func flowsOf(b *bench) int { return len(b.port.Snapshot(b.Now()).Flows) }

func TestAGateComesAndGoesWithItsForward(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	first, second := porttest.FreePort(t), porttest.FreePort(t)
	b.add("gate:" + first.String() + ":80")
	requireRefused(t, first.String())
	b.Run(3 * time.Second)
	requireRefused(t, first.String())
	l := b.Listen(80)
	require.LessOrEqual(t, b.opened(), mostShut)
	requireConnects(t, first.String())
	l.Accept()
	b.add("gate:" + second.String() + ":80")
	b.Until("a second port opens with a gate that is open", func() bool { return isListenedOn(t, second) })
	b.quit("gate:" + first.String() + ":80")
	requireRefused(t, first.String())
	requireConnects(t, second.String())
	b.quit("gate:" + second.String() + ":80")
	requireRefused(t, second.String())
	b.Settle()
	before := b.port.Counters().Knocks
	b.Run(time.Minute)
	require.Equal(t, before, b.port.Counters().Knocks, "nobody asks the guest any more")
}

func TestWhatAThreadMayUseIsClosedWhenItAnswers(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	host, other := porttest.FreePort(t), porttest.FreePort(t)
	text := host.String() + ":80"
	b.add(text)
	before := openFiles(t)
	quit := []spec.Forward{parseForward(t, text)}
	require.ErrorIs(t, b.port.ChangeForwards(quit, nil, func() {}), nat.ErrNotFollowed)
	require.Equal(t, before, openFiles(t))
	require.Empty(t, b.port.Forwards())
	b.port.ReviveForwards(b.Turn)
	require.Len(t, b.port.Forwards(), 1)
	l := b.Listen(80)
	requireConnects(t, host.String())
	l.Accept()

	require.ErrorIs(t, b.port.ChangeForwards(quit, nil, func() {}), nat.ErrNotFollowed)
	b.Turn()
	b.add(other.String() + ":81")
	requireRefused(t, host.String())
	require.Equal(t, []spec.Forward{parseForward(t, other.String()+":81")}, b.port.Forwards())
}

func TestForwardsEndWithTheEngine(t *testing.T) {
	before := openFiles(t)
	host, late := porttest.FreePort(t), porttest.FreePort(t)
	cfg := nat.DefaultConfig()
	cfg.ResolvConf = ""
	port, err := nat.New(cfg)
	require.NoError(t, err)
	quit := bound(t, host.String()+":80")
	require.ErrorIs(t, port.ChangeForwards(nil, quit, func() {}), nat.ErrNotFollowed)
	require.ErrorIs(t, port.ChangeForwards([]spec.Forward{quit[0].Forward}, nil, func() {}), nat.ErrNotFollowed)
	require.ErrorIs(t, port.ChangeForwards(nil, bound(t, late.String()+":80"), func() {}), nat.ErrNotFollowed)
	require.NoError(t, port.Close())
	require.ErrorContains(t, port.ChangeForwards(nil, bound(t, host.String()+":80"), func() {}), "not served any more")
	require.Equal(t, before, openFiles(t))
}

// Flows of UDP forwards move between queue pairs while the forwards come and go, and so do the listeners.
func TestForwardsOfManyQueuesComeAndGo(t *testing.T) {
	b, h := newQueues(t, 4)
	l := b.Listen(80)
	client := requireConnects(t, h.forward.String())
	guest := l.Accept()
	const size = 1 << 20
	go func() { _, _ = client.Write(noise(size)) }()
	host := porttest.FreePort(t)
	texts := []string{"udp:" + host.String() + ":53", "gate:" + host.String() + ":80"}
	before := openFiles(t)
	var change sync.WaitGroup
	change.Go(func() {
		peer, err := net.Dial("udp4", host.String())
		require.NoError(t, err)
		defer peer.Close()
		for round := range 200 {
			require.NoError(t, b.port.ChangeForwards(nil, bound(t, texts...), h.wakeAll))
			if round%20 == 0 {
				untilAnswered(t, peer)
			}
			for i := range 8 {
				_, _ = peer.Write([]byte{byte(i)})
			}
			require.NoError(t, b.port.ChangeForwards([]spec.Forward{parseForward(t, texts[0]), parseForward(t, texts[1])}, nil, h.wakeAll))
		}
	})
	changed := make(chan struct{})
	go func() {
		change.Wait()
		close(changed)
	}()
	answered := 0
	b.Until("all changes are made", func() bool {
		for _, d := range b.Datagrams() {
			answered++
			b.SendDatagram(porttest.Datagram{Src: d.Dst, Dst: d.Src, Payload: d.Payload})
		}
		select {
		case <-changed:
			return true
		default:
			return false
		}
	})
	require.NotZero(t, answered, "datagrams have passed")
	guest.WaitFor(size)
	requireSame(t, noise(size), guest.Received())
	require.NoError(t, client.Close())
	b.Until("its descriptors are closed", func() bool { return openFiles(t) <= before-1 })
	require.Len(t, b.port.Forwards(), 2)
}

// untilAnswered sends datagrams until one comes back. Errors are those of before the forward was there.
func untilAnswered(t *testing.T, peer net.Conn) {
	for deadline := time.Now().Add(time.Minute); ; {
		_, _ = peer.Write([]byte("question"))
		require.NoError(t, peer.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, err := peer.Read(make([]byte, 100)); err == nil {
			return
		}
		require.True(t, time.Now().Before(deadline), "no answer")
	}
}

// wakeAll gives all pairs a turn.
func (h *hopper) wakeAll() {
	for i := range h.ports {
		require.NoError(h.t, h.device.Do(i, func(*worker.Thread) {}))
	}
}

func TestARangeIsItsPorts(t *testing.T) {
	f, err := spec.ParseForward("127.0.0.1:8000-8002:80-82")
	require.NoError(t, err)
	var ports []string
	for one := range f.Ports() {
		ports = append(ports, one.String())
	}
	require.Equal(t, []string{"tcp:127.0.0.1:8000:80", "tcp:127.0.0.1:8001:81", "tcp:127.0.0.1:8002:82"}, ports)
	require.Equal(t, netip.MustParseAddrPort("127.0.0.1:8000"), f.Host)
}
