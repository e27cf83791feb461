package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// uplinkFile is the configuration of three guests on a switch, each behind NAT. The third one reaches nothing outside.
const uplinkFile = `guests:
  - {name: a, socket-path: DIR/a.sock, switch: {switch-name: lan}, nat: {allow-host: ["tcp:SERVER"], dns: ["127.0.0.1:9"], forwards: ["FORWARD:5001"]}}
  - {name: b, socket-path: DIR/b.sock, switch: {switch-name: lan}, nat: {allow-host: ["tcp:SERVER"], dns: ["127.0.0.1:9"]}}
  - {name: c, socket-path: DIR/c.sock, switch: {switch-name: lan}, nat: {restrict: true, dns: ["127.0.0.1:9"]}}
`

// askedNames are questions of programs in a guest, and what they are told.
const askedNames = `printf 'nameserver 10.0.2.3\nnameserver fd00:10:0:2::3\nsearch vring.internal\n' >/etc/resolv.conf
getent ahostsv4 b | head -1
getent hosts 10.0.2.16
dig +short @10.0.2.3 b A
dig +short @10.0.2.3 c.vring.internal A
dig +short @10.0.2.3 -x 10.0.2.17
dig +short @fd00:10:0:2::3 b.vring.internal AAAA
dig +short @10.0.2.3 -x fd00:10:0:2::16
dig @10.0.2.3 nobody.vring.internal A | grep -o 'status: [A-Z]*'
`

const toldNames = `10.0.2.16       STREAM b.vring.internal
10.0.2.16       b.vring.internal
10.0.2.16
10.0.2.17
c.vring.internal.
fd00:10:0:2::16
b.vring.internal.
status: NXDOMAIN
`

// Guests on a switch that are behind NAT, too, get addresses of their own by DHCP, reach each other by IPv4 and IPv6 and by their names, and
// the outside each by its own rules. One that boots again has its address again.
func TestGuestsOnASwitchBehindNAT(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "a.sock")}
	dir := filepath.Dir(d.Socket)
	require.NoError(t, os.Chmod(dir, 0o755))
	server, forward := serveTCP(t, labBytes), freePort(t)
	file := filepath.Join(dir, "lan.yaml")
	text := strings.NewReplacer("DIR", dir, "SERVER", fmt.Sprint(server.Port), "FORWARD", fmt.Sprintf("127.0.0.1:%d", forward)).Replace(uplinkFile)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	d.args = []string{"serve", file}
	d.start()
	t.Cleanup(d.terminate)
	modules, err := guest.UMLModules(userland.Forky, "overlay")
	require.NoError(t, err)
	initrd := filepath.Join(dir, "initrd")
	require.NoError(t, guest.Image{Init: built.init, Modules: modules}.Write(initrd))
	var guests []*station
	for i, name := range []string{"a", "b", "c"} {
		g := startUML(ctx, t, uml.Options{Userland: userland.Forky, Initrd: initrd, Socket: filepath.Join(dir, name+".sock")})
		guests = append(guests, &station{testGuest: g, t: t, ctx: ctx, vring: d, number: i + 15})
	}
	for _, s := range guests {
		s.lease()
	}
	a, b, c := guests[0], guests[1], guests[2]

	for _, s := range guests {
		s.requirePing("10.0.2.2", 56)
		s.requirePing("fd00:10:0:2::2", 56)
	}
	for _, pair := range [][2]*station{{a, b}, {b, c}, {c, a}} {
		from, to := pair[0], pair[1]
		from.requirePing(to.leased(), 56)
		from.requirePing(to.leased6(), 1400)
		from.requireTransfer(to, to.leased(), labBytes)
	}

	l := &lab{t: t, ctx: ctx, guest: a.testGuest, tcp: server, forwardTCP: forward}
	l.transferOut()
	l.transferIn()
	require.Error(t, c.Do(ctx, nil, "tcp-dial", viaGateway(server.Port), labBytes, guestSeed), "its policy is its own")

	root, err := userland.Forky.File("/")
	require.NoError(t, err)
	a.do(nil, "tree", "forky", root, dir)
	script := filepath.Join(dir, "ask")
	require.NoError(t, os.WriteFile(script, []byte(askedNames), 0o644))
	var told proto.Outcome
	a.do(&told, "script", "forky", script)
	require.Equal(t, toldNames, told.Output)

	b.Start("reboot")
	b.lease()
	require.NoError(t, os.WriteFile(script, []byte("ip neighbour flush dev "+card), 0o644))
	a.do(&told, "script", "forky", script) // the new boot has another MAC address
	require.Zero(t, told.Status, told.Output)
	a.requireTransfer(b, b.leased(), labBytes)
}

// lease boots a guest, and checks that it gets the addresses that it is promised, of both versions of IP.
func (s *station) lease() {
	s.t.Helper()
	_, err := s.WaitBoot(s.ctx)
	require.NoError(s.t, err)
	var got proto.Lease
	s.do(&got, "dhcp", card)
	require.Equal(s.t, s.leased()+"/24", got.Address)
	require.Equal(s.t, "10.0.2.2", got.Router)
	s.do(nil, "slaac", card)
	var got6 proto.Lease6
	s.do(&got6, "dhcp6", card)
	require.Equal(s.t, s.leased6()+"/64", got6.Address)
	s.mac = s.link().MAC
}

func (s *station) leased() string  { return fmt.Sprintf("10.0.2.%d", s.number) }
func (s *station) leased6() string { return fmt.Sprintf("fd00:10:0:2::%d", s.number) }
