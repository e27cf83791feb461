package integration

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/uml"
	"github.com/vringnet/vring/integration/lab/userland"
)

// switchFile is the configuration of guests on a switch. The third one's frames without a tag are in another VLAN than those of
// the others, which it reaches with a tag. The fourth one is not trusted: it is bound to its addresses.
const switchFile = `guests:
  - {name: a, socket-path: DIR/a.sock, switch: {switch-name: lan, vlan: 10, flood: 500}}
  - {name: b, socket-path: DIR/b.sock, switch: {switch-name: lan, vlan: 10}}
  - {name: c, socket-path: DIR/c.sock, switch: {switch-name: lan, vlan: 20, trunk: "10"}}
  - {name: harm, socket-path: DIR/harm.sock, switch: {switch-name: lan, vlan: 10, mac: "52:54:00:00:00:04", ip: [192.0.2.4, "fd00::4", "fe80::/64"]}}
`

// switchFileMore are the guests of the long form with QEMU.
const switchFileMore = `  - {name: e, socket-path: DIR/e.sock, switch: {switch-name: lan, vlan: 10}}
  - {name: f, socket-path: DIR/f.sock, switch: {switch-name: lan, vlan: 10}}
`

// Guests on a switch in vring reach each other by ARP and neighbour discovery, by TCP with offloads each way, as far as their
// VLANs go. One that boots again, is killed, stands still or means harm is no matter to the others.
func TestGuestsOnASwitch(t *testing.T) {
	t.Parallel()
	l := newSwitchLab(t)
	a, b, c, harm := l.uml("a", 1, ""), l.uml("b", 2, ""), l.uml("c", 3, ""), l.uml("harm", 4, "52:54:00:00:00:04")
	trusted := []*station{a, b}
	if enduring() {
		trusted = append(trusted, l.qemu("e", 5, userland.Bookworm), l.qemu("f", 6, userland.Forky))
	}

	for _, from := range trusted {
		for _, to := range trusted {
			if from != to {
				from.requireReach(to)
			}
			if from != to && enduring() {
				from.requireIperf(to, to.v4(), "")
				from.requireIperf(to, to.v6(), "-R")
			}
		}
	}
	a.requireTransfer(b, b.v4(), transferBytes)
	harm.requireReach(a)

	var echoes proto.Echoes
	a.do(&echoes, "ping", c.v4(), 1)
	require.Zero(t, echoes.Answered, "it is in another VLAN")
	c.run("ip link add link "+card+" name v10 type vlan id 10", "ip address add 198.51.100.3/24 dev v10", "ip link set v10 up")
	a.run("ip address add 198.51.100.1/24 dev " + card)
	a.waitPing("198.51.100.3")

	listen := c.Start("tcp-listen", guestTCPPort, transferBytes, hostSeed)
	require.NoError(t, listen.Event(l.ctx, nil))
	dial := a.Start("tcp-dial", fmt.Sprintf("198.51.100.3:%d", guestTCPPort), transferBytes, guestSeed)
	b.Start("reboot")
	b.boot()
	var here, there proto.Transfer
	require.NoError(t, dial.Wait(l.ctx, &here))
	require.NoError(t, listen.Event(l.ctx, &there))
	requirePattern(t, hostSeed, transferBytes, here)
	requirePattern(t, guestSeed, transferBytes, there)
	a.run("ip neighbour flush dev " + card) // the new boot has another MAC address
	a.requireReach(b)

	before := l.lost(a, b)
	for _, h := range harms(a.mac, b.mac) {
		l.endure(h, harm, a, b)
	}
	a.run("ip neighbour replace " + harm.v4() + " lladdr " + harm.mac + " dev " + card)
	require.NoError(t, syscall.Kill(harm.PID(), syscall.SIGSTOP)) // nobody takes frames from its ring
	a.Start("udp-flood", harm.v4()+":9", 1400)
	b.requireTransfer(a, a.v4(), labBytes)
	a.requirePing(b.v4(), 1400)
	require.NoError(t, c.Kill())
	require.Equal(t, before, l.lost(a, b), "what guests lost that mean no harm, and send to each other")
	require.NoError(t, harm.Kill()) // what is sent to it goes to all from now on, and is too much
	b.requireTransfer(a, a.v4(), labBytes)
	a.requireReach(b)
}

// switchLab is a vring with guests on a switch.
type switchLab struct {
	*daemon
	ctx context.Context
	dir string
}

func newSwitchLab(t *testing.T) *switchLab {
	d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "a.sock")}
	dir := filepath.Dir(d.Socket)
	file, text := filepath.Join(dir, "lan.yaml"), switchFile
	if enduring() {
		text += switchFileMore
	}
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600))
	d.args = []string{"serve", file}
	d.start()
	t.Cleanup(d.terminate)
	return &switchLab{daemon: d, ctx: limited(t), dir: dir}
}

// uml boots a guest with User-mode Linux, with a MAC address if it is to have a certain one.
func (l *switchLab) uml(name string, number int, mac string) *station {
	u := userland.Forky
	g := startUML(l.ctx, l.t, uml.Options{Userland: u, Initrd: built.image(u, true, true), Socket: filepath.Join(l.dir, name+".sock")})
	s := &station{testGuest: g, t: l.t, ctx: l.ctx, vring: l.daemon, number: number}
	if mac != "" {
		s.before = []string{"ip link set " + card + " address " + mac}
	}
	return s.boot()
}

// qemu boots a guest with QEMU.
func (l *switchLab) qemu(name string, number int, u userland.Userland) *station {
	g := startQEMU(l.ctx, l.t, qemu.Options{
		Userland: u, Initrd: built.image(u, false, true), Socket: filepath.Join(l.dir, name+".sock"),
		Device: []string{fmt.Sprintf("mac=52:54:00:00:00:%02x", number)},
	})
	return (&station{testGuest: g, t: l.t, ctx: l.ctx, vring: l.daemon, number: number}).boot()
}

// harmful is a frame that a guest sends as fast as it can.
type harmful struct {
	name    string
	frame   []byte
	number  int    // offset of what changes from frame to frame
	counter string // of drops at its port, "" if the frame may pass
}

// harms are what the guest 192.0.2.4 tries on 192.0.2.1 and 192.0.2.2.
func harms(a, b string) []harmful {
	const own = "525400000004"
	a, b = strings.ReplaceAll(a, ":", ""), strings.ReplaceAll(b, ":", "")
	v4 := func(n byte) []byte { return []byte{192, 0, 2, n} }
	frame := func(to, from, typ string, packet ...[]byte) []byte {
		head, err := hex.DecodeString(to + from + typ)
		if err != nil {
			panic(err)
		}
		return append(head, slices.Concat(packet...)...)
	}
	arp := func(sender byte) []byte {
		mac, _ := hex.DecodeString(own)
		return slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 2}, mac, v4(sender), make([]byte, 6), v4(1))
	}
	packet := func(from byte) []byte {
		payload := udp(1, 9, make([]byte, 64))
		return slices.Concat([]byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 64, 17, 0, 0}, v4(from), v4(1), payload)
	}
	advertisement, _ := hex.DecodeString("600000000018" + "3aff" + "fd000000000000000000000000000004" + "fd000000000000000000000000000001" +
		"88000000" + "60000000" + "fd000000000000000000000000000002")
	return []harmful{
		{"frames to all", frame("ffffffffffff", own, "88b5", make([]byte, 46)), 20, "storm"},
		{"frames to addresses that nobody has", frame("525400990000", own, "88b5", make([]byte, 46)), 4, "storm"},
		{"frames from all addresses", frame(a, own, "88b5", make([]byte, 46)), 10, "spoofed"},
		{"frames from the other's address", frame(a, b, "88b5", make([]byte, 46)), 20, "spoofed"},
		{"ARP for the other's address", frame(a, own, "0806", arp(2)), 38, "spoofed"},
		{"packets from the other's address", frame(a, own, "0800", packet(2)), sourcePortAt, "spoofed"},
		{"neighbour advertisements for the other's address", frame(a, own, "86dd", advertisement), 14 + 2, "spoofed"},
		{"datagrams of its own", frame(a, own, "0800", packet(4)), sourcePortAt, ""},
	}
}

// endure lets a guest send frames of one kind as fast as it can, while two others talk to each other.
func (l *switchLab) endure(h harmful, harm, a, b *station) {
	l.t.Helper()
	const least = 5000 // frames: far more than may go to all
	before := uint64(0)
	if h.counter != "" {
		before = l.counted("harm", []string{h.counter})
	}
	flood := harm.Start("flood", card, (500 * time.Millisecond).Milliseconds(), hex.EncodeToString(h.frame), h.number, least)
	for first := true; first || !ended(flood); first = false {
		a.requirePing(b.v4(), 56)
		a.requirePing(b.v6(), 1400)
		a.requireTransfer(b, b.v4(), labBytes)
	}
	var sent proto.Flood
	require.NoError(l.t, flood.Wait(l.ctx, &sent))
	l.t.Logf("%s: %d frames", h.name, sent.Frames)
	if h.counter != "" {
		risen := func() bool { return l.counted("harm", []string{h.counter}) > before }
		require.True(l.t, assertEventually(risen), "%s were not stopped", h.name)
	}
}

// lost are the frames that the ports of guests had to drop, but those for a guest that takes none.
func (l *switchLab) lost(guests ...*station) (all []uint64) {
	l.t.Helper()
	for i := range guests {
		all = append(all, l.counted([]string{"a", "b"}[i], []string{"bad_headers", "bad_source", "spoofed", "too_many_macs", "uncut", "storm", "discarded", "too_long"}))
	}
	return all
}
