package qemuopt

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Guest is what a command line is for.
type Guest struct {
	Program string // QEMU's, such as qemu-system-x86_64
	Version Version
	Socket  string // path of the vhost-user socket
	Listen  bool   // QEMU listens on Socket, and the back end connects
	Queues  int    // queue pairs; 0 and 1 are one
	MAC     string // of the guest's card
	KVM     bool   // the guest runs on the host's processor, instead of being emulated
	Stream  bool   // frames pass over Socket, and no memory is shared
}

// Command returns a command line that boots g once "..." is replaced by its disk or kernel.
func (g *Guest) Command() string {
	if g.Stream {
		return strings.Join([]string{g.Program, "-accel", g.accel(), "-m 1G", "-netdev", g.stream(), "-device", g.Device(), "..."}, " ")
	}
	return strings.Join([]string{
		g.Program, g.machine(), "-chardev", g.Chardev(), "-netdev", g.Netdev(), "-device", g.Device(), "...",
	}, " ")
}

// machine returns the options for processors and memory, which is shared with the back end.
func (g *Guest) machine() string {
	smp := ""
	if g.Queues > 1 {
		smp = fmt.Sprintf(" -smp %d", g.Queues) // the driver uses no more queue pairs than it has processors
	}
	return "-accel " + g.accel() + smp + " -m 1G -object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem"
}

func (g *Guest) accel() string {
	if g.KVM {
		return "kvm"
	}
	return "tcg"
}

// stream returns the value of -netdev for frames over a socket. QEMU before 8.0 does not connect again.
func (g *Guest) stream() string {
	value := "stream,id=net,addr.type=unix,addr.path=" + escape(g.Socket)
	switch {
	case g.Listen:
		return value + ",server=on"
	case g.Version.Known() && g.Version.Major < 8:
		return value + ",server=off"
	}
	return value + ",server=off," + g.Version.Reconnect()
}

// Names in a command line: of the socket, and of the kind of card.
const (
	ChardevID = "vring"
	Card      = "virtio-net-pci"
)

// Chardev returns the value of -chardev: the socket.
func (g *Guest) Chardev() string {
	if g.Listen {
		return "socket,id=" + ChardevID + ",path=" + escape(g.Socket) + ",server=on,wait=off"
	}
	return "socket,id=" + ChardevID + ",path=" + escape(g.Socket) + "," + g.Version.Reconnect()
}

// escape writes a value of QEMU's options, in which a comma is doubled.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// Netdev returns the value of -netdev.
func (g *Guest) Netdev() string { return g.NetdevOf("net") }

// NetdevOf is Netdev with an ID of its own.
func (g *Guest) NetdevOf(id string) string {
	value := "vhost-user,id=" + id + ",chardev=" + ChardevID
	if g.Queues > 1 {
		value += fmt.Sprintf(",queues=%d", g.Queues)
	}
	return value
}

// Device returns the value of -device: the guest's card.
func (g *Guest) Device() string {
	device := Card + ",netdev=net,mac=" + g.MAC
	if g.Queues > 1 {
		device += ",mq=on"
	}
	if !g.Stream && !g.KVM && g.Version.NeedsNoVectors() {
		device += "," + NoVectors
	}
	return device
}

// MAC returns a MAC address for the guest behind a socket: always the same for one absolute path on one host, and another
// one for another path or host, so that guests on one bridge do not share it. It is locally administered, in the range that
// QEMU takes its own from.
func MAC(host, socket string) string {
	sum := sha256.Sum256([]byte(host + "\x00" + socket))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}
