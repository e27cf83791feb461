package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// switchFile is the configuration of three guests on a switch. The third one's frames without a tag are in another VLAN than those of
// the first two, which it reaches with a tag.
const switchFile = `guests:
  - {name: a, socket-path: DIR/a.sock, switch: {switch-name: lan, vlan: 10}}
  - {name: b, socket-path: DIR/b.sock, switch: {switch-name: lan, vlan: 10}}
  - {name: c, socket-path: DIR/c.sock, switch: {switch-name: lan, vlan: 20, trunk: "10"}}
`

// Guests on a switch in vring reach each other by ARP and neighbour discovery, by TCP with offloads each way, as far as their
// VLANs go. One that boots again is no matter to the others.
func TestGuestsOnASwitch(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "a.sock")}
	dir := filepath.Dir(d.Socket)
	file := filepath.Join(dir, "lan.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(switchFile, "DIR", dir)), 0o600))
	d.args = []string{"serve", file}
	d.start()
	t.Cleanup(d.terminate)
	var stations []*station
	for i, name := range []string{"a", "b", "c"} {
		u := userland.Forky
		g := startUML(ctx, t, uml.Options{Userland: u, Initrd: built.image(u, true, true), Socket: filepath.Join(dir, name+".sock")})
		stations = append(stations, &station{testGuest: g, t: t, ctx: ctx, vring: d, number: i + 1})
	}
	a, b, c := stations[0].boot(), stations[1].boot(), stations[2].boot()

	a.requireReach(b)
	b.requireReach(a)
	a.requireTransfer(b, b.v4(), transferBytes)

	var echoes proto.Echoes
	a.do(&echoes, "ping", c.v4(), 1)
	require.Zero(t, echoes.Answered, "it is in another VLAN")
	c.run("ip link add link "+card+" name v10 type vlan id 10", "ip address add 198.51.100.3/24 dev v10", "ip link set v10 up")
	a.run("ip address add 198.51.100.1/24 dev " + card)
	a.waitPing("198.51.100.3")

	listen := c.Start("tcp-listen", guestTCPPort, transferBytes, hostSeed)
	require.NoError(t, listen.Event(ctx, nil))
	dial := a.Start("tcp-dial", fmt.Sprintf("198.51.100.3:%d", guestTCPPort), transferBytes, guestSeed)
	b.Start("reboot")
	b.boot()
	var here, there proto.Transfer
	require.NoError(t, dial.Wait(ctx, &here))
	require.NoError(t, listen.Event(ctx, &there))
	requirePattern(t, hostSeed, transferBytes, here)
	requirePattern(t, guestSeed, transferBytes, there)
	a.run("ip neighbour flush dev " + card) // the new boot has another MAC address
	a.requireReach(b)
	b.requireTransfer(a, a.v4(), labBytes)
}
