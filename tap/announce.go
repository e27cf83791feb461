package tap

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

var _ netbackend.Link = (*Port)(nil)

// SetMTU implements netbackend.Link: the device gets the guest's MTU, until the session ends. If that cannot be, a guest
// with a smaller one than the device is served all the same: what finds no room is dropped and counted.
func (p *Port) SetMTU(mtu int) error {
	err := p.device.changeMTU(mtu)
	if err != nil && mtu < p.device.MTU() {
		p.raise(slog.LevelWarn, "the TAP device keeps an MTU that is larger than the guest's", "reason", err.Error())
		return nil
	}
	return err
}

// Announce implements netbackend.Link: it sends a reverse ARP request (RFC 903) from mac, by which switches learn where
// it is. QEMU asks for the first of them before it starts the rings of a guest that was migrated here. It goes out when the
// queue is attached, and others that were asked for before are not repeated.
func (p *Port) Announce(mac [6]byte) error {
	if !p.attached {
		p.owed = announcement{mac, true}
		return nil
	}
	p.owed = announcement{}
	frame := rarp(mac)
	header := p.sent[:vnet.HeaderLen]
	clear(header)
	iov := append(p.iov[:0], guestmem.PieceOf(header), guestmem.PieceOf(frame[:]))
	if _, errno := guestmem.Writev(p.queue.fd, iov); errno != 0 {
		return fmt.Errorf("TAP device %s: %w", p.device.cfg.Name, errno)
	}
	return nil
}

// announcement is an address that is to be announced when the queue is attached, if there is one.
type announcement struct {
	mac  [6]byte
	owed bool
}

// payAnnouncement sends what was asked for before the queue was attached.
func (p *Port) payAnnouncement() {
	if !p.owed.owed {
		return
	}
	if err := p.Announce(p.owed.mac); err != nil {
		p.raise(slog.LevelWarn, "the network is not told where the guest is", "err", err.Error())
	}
}

// rarp is a broadcast in which mac asks for its own address.
func rarp(mac [6]byte) *[netbackend.MinFrame]byte {
	const (
		hardware  = vnet.EthernetHeaderLen // of the message: the header is six bytes of 0xff, mac, and the type
		operation = hardware + 6
		sender    = hardware + 8
		target    = hardware + 18
	)
	frame := new([netbackend.MinFrame]byte)
	for i := range 6 {
		frame[i] = 0xff
	}
	copy(frame[6:], mac[:])
	frame[12], frame[13] = byte(unix.ETH_P_RARP>>8), byte(unix.ETH_P_RARP&0xff)
	copy(frame[hardware:], []byte{0, 1, 8, 0, 6, 4}) // Ethernet, IPv4, and the lengths of their addresses
	frame[operation+1] = 3                           // request reverse
	copy(frame[sender:], mac[:])
	copy(frame[target:], mac[:])
	return frame
}
