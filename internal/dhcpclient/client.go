package dhcpclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// wait is how long each answer is waited for. The first answers may be lost: a network that was just set up needs a moment.
const wait = time.Second

// Request is what is asked for.
type Request struct {
	Interface string // its name; it is up
	MAC       net.HardwareAddr
	Options   []dhcpv4.OptionCode
	Tries     int // how often each message is sent, a second after the one before
}

// Ask goes through DISCOVER, OFFER, REQUEST and ACK (RFC 2131, section 3.1), and returns the ACK. It sets nothing.
func Ask(r Request) (*dhcpv4.DHCPv4, error) {
	conn, err := listen(r.Interface)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()

	discover, err := dhcpv4.NewDiscovery(r.MAC, dhcpv4.WithBroadcast(true), dhcpv4.WithRequestedOptions(r.Options...))
	if err != nil {
		return nil, err
	}
	offer, err := r.exchange(conn, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return nil, err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithBroadcast(true))
	if err != nil {
		return nil, err
	}
	return r.exchange(conn, request, dhcpv4.MessageTypeAck)
}

// listen opens the client's port on an interface that has no address yet.
func listen(name string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), name))
		})
		return errors.Join(err, failed)
	}}
	return config.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", dhcpv4.ClientPort))
}

// exchange sends a message until the server answers it with one of the wanted type.
func (r *Request) exchange(conn net.PacketConn, m *dhcpv4.DHCPv4, want dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	server := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}
	for range r.Tries {
		if _, err := conn.WriteTo(m.ToBytes(), server); err != nil {
			return nil, err
		}
		if answer := await(conn, m.TransactionID, want); answer != nil {
			return answer, nil
		}
	}
	return nil, fmt.Errorf("no DHCP %v after %d tries", want, r.Tries)
}

// await returns the wanted answer, nil if it does not come in time.
func await(conn net.PacketConn, id dhcpv4.TransactionID, want dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil
	}
	buf := make([]byte, 4096)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return nil
		}
		answer, err := dhcpv4.FromBytes(buf[:n])
		if err == nil && answer.TransactionID == id && answer.MessageType() == want {
			return answer
		}
	}
}
