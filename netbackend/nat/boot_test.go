package nat_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/bootroot"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

const tftpAt = 69

// booting is a setup whose router gives out a file, by its name, and no other one.
func booting(t *testing.T, name string, file []byte, s setup) setup {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), file, 0o644))
	root, err := bootroot.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, root.Close()) })
	inner := s.config
	s.config = func(c *nat.Config) {
		c.BootRoot, c.BootFile = dir, root.OpenFile
		if inner != nil {
			inner(c)
		}
	}
	return s
}

// requestFile asks the router for a file, from a port.
func (b *bench) requestFile(router netip.Addr, port uint16, request string) {
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.Source(router), port), Dst: netip.AddrPortFrom(router, tftpAt), Payload: []byte("\x00\x01" + request)})
	b.Turn()
}

// load gets a file of n bytes from the router, which comes in blocks.
func (b *bench) load(router netip.Addr, port uint16, name string, n, block int) (got []byte) {
	b.requestFile(router, port, name+"\x00octet\x00")
	answer := func(number []byte) {
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.Source(router), port), Dst: netip.AddrPortFrom(router, tftpAt), Payload: append([]byte{0, 4}, number...)})
	}
	b.Until("the file is there", func() bool {
		for _, d := range b.Datagrams() {
			require.Equal(b.t, netip.AddrPortFrom(router, tftpAt), d.Src)
			require.Equal(b.t, port, d.Dst.Port())
			require.EqualValues(b.t, 3, binary.BigEndian.Uint16(d.Payload), "%q", d.Payload)
			if int(binary.BigEndian.Uint16(d.Payload[2:])) == len(got)/block+1 {
				got = append(got, d.Payload[4:]...)
			}
			answer(d.Payload[2:4])
		}
		return len(got) == n
	})
	return got
}

func TestTheRouterGivesOutBootFiles(t *testing.T) {
	const n = 20*512 + 100
	for _, addr := range []string{"10.0.2.2", "fd00:10:0:2::2"} {
		t.Run(addr, func(t *testing.T) {
			file := noise(n)
			b := newBench(t, booting(t, "boot.ipxe", file, setup{config: func(c *nat.Config) { c.Restrict = true }}))
			b.Resolve()
			router := netip.MustParseAddr(addr)
			requireSame(t, file, b.load(router, 2000, "boot.ipxe", n, 512))
			requireSame(t, file, b.load(router, 2000, "/boot.ipxe", n, 512))
			requireSame(t, file, b.load(router, 2001, "boot.ipxe", n, 512))
			require.Equal(t, 2, b.Sockets())
		})
	}
}

func TestAFileThatThereIsNotIsToldOf(t *testing.T) {
	b := newBench(t, booting(t, "boot.ipxe", noise(10), setup{}))
	b.Resolve()
	b.requestFile(b.Gateway, 2000, "../etc/passwd\x00octet\x00")
	b.requestFile(b.Gateway, 2001, "none\x00octet\x00")
	told := map[uint16]string{}
	b.Until("both were told", func() bool {
		for _, d := range b.Datagrams() {
			told[d.Dst.Port()] = string(d.Payload)
		}
		return len(told) == 2
	})
	require.Equal(t, map[uint16]string{
		2000: "\x00\x05\x00\x02the file cannot be read: its name leads out of the directory of boot files\x00",
		2001: "\x00\x05\x00\x01there is no such file: none\x00",
	}, told)
}

func TestWithoutBootFilesNobodyAnswers(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.requestFile(b.Gateway, 2000, "boot.ipxe\x00octet\x00")
	b.Run(time.Second)
	require.Empty(t, b.Datagrams())
	require.Zero(t, b.Sockets())
}

func TestAPortThatIsLedElsewhereIsNotTheBootServers(t *testing.T) {
	to := echoDatagrams(t)
	b := newBench(t, booting(t, "boot.ipxe", noise(10), setup{config: func(c *nat.Config) {
		c.Redirects = redirects(t, fmt.Sprintf("udp:10.0.2.2:69=127.0.0.1:%d", to))
	}}))
	b.Resolve()
	b.requestFile(b.Gateway, 2000, "boot.ipxe\x00octet\x00")
	b.Until("the other server has answered", func() bool {
		for _, d := range b.Datagrams() {
			return string(d.Payload) == "\x00\x01boot.ipxe\x00octet\x00"
		}
		return false
	})
}

func TestBootFilesOutliveANewPolicy(t *testing.T) {
	const n = 40 * 512
	file := noise(n + 1)
	b := newBench(t, booting(t, "kernel", file, setup{}))
	b.Resolve()
	b.requestFile(b.Gateway, 2000, "kernel\x00octet\x00")
	b.Until("the first block", func() bool { return len(b.Datagrams()) > 0 })
	b.port.SetPolicy(opening(t))
	b.Turn()
	b.Run(time.Second)
	require.Equal(t, 1, b.Sockets())
	require.Zero(t, b.port.Counters().Withdrawn)
}

// Each request that comes from another port is a session. A guest that asks from all ports has so many, and the oldest that load nothing
// give way.
func TestAGuestHasABoundedNumberOfBootSessions(t *testing.T) {
	const most = 32
	b := newBench(t, booting(t, "kernel", noise(10_000), setup{}))
	b.Resolve()
	sessions := func() int {
		for _, u := range b.port.Snapshot(b.Now()).Usage {
			if u.Name == "boot sessions" {
				require.EqualValues(t, most, u.Most)
				return u.Used
			}
		}
		require.Fail(t, "nobody says how many sessions there are")
		return 0
	}
	for i := range uint16(100) {
		b.requestFile(b.Gateway, 2000+i, "none\x00octet\x00")
		b.Until("it was told", func() bool { return len(b.Datagrams()) > 0 })
	}
	require.LessOrEqual(t, sessions(), most)
	require.Zero(t, b.port.Counters().BootRefused)

	for i := range uint16(most + 3) { // none of these gives way
		b.requestFile(b.Gateway, 4000+i, "kernel\x00octet\x00")
		if i < most {
			b.Until("the first block", func() bool { return len(b.Datagrams()) > 0 })
		}
	}
	require.Equal(t, most, sessions())
	require.EqualValues(t, 3, b.port.Counters().BootRefused)
}
