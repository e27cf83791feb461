package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// Datagrams may be lost by anyone on the way, so each is tried a few times.
const (
	echoTries = 5
	echoWait  = 2 * time.Second
)

// udpDial sends datagrams of all sizes from FIRST to LAST to an echo server, and compares what comes back. It sends from a
// given port, so that one who asks twice is the same flow to a NAT.
func udpDial(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	first, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	last, err := args.Number(2)
	if err != nil {
		return nil, err
	}
	from, err := args.Optional(3, 0)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: from}}
	conn, err := dialer.Dial("udp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	var result proto.Echoes
	for size := first; size <= last; size++ {
		result.Sent++
		if echoed(conn, payload(size)) {
			result.Answered++
			continue
		}
		result.Lost = append(result.Lost, size)
	}
	return result, nil
}

// udpFlood sends datagrams of SIZE bytes and asks for no answer, until the guest ends. It pauses between bursts: a flood
// that leaves the guest no time would only show that it has none.
func udpFlood(args agent.Arguments, _ func(any)) (any, error) {
	const burst, pause = 32, 5 * time.Millisecond
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	size, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	from, err := args.Optional(2, 0)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{Port: from}}
	conn, err := dialer.Dial("udp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for {
		for range burst {
			_, _ = conn.Write(payload(size)) // of a network that may be broken
		}
		time.Sleep(pause)
	}
}

// payload returns the test data of a size; no two sizes begin alike.
func payload(size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(size + 31*i)
	}
	return p
}

// echoed tells whether the server sent a datagram back.
func echoed(conn net.Conn, want []byte) bool {
	buf := make([]byte, 65536)
	for range echoTries {
		if _, err := conn.Write(want); err != nil {
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(echoWait)); err != nil {
			return false
		}
		for {
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			if bytes.Equal(buf[:n], want) {
				return true
			}
		}
	}
	return false
}

// udpEcho sends datagrams back, until the guest ends.
func udpEcho(args agent.Arguments, event func(any)) (any, error) {
	port, err := args.Number(0)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	event(proto.Listening{Address: conn.LocalAddr().String()})
	buf := make([]byte, 65536)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return nil, err
		}
		if _, err := conn.WriteTo(buf[:n], peer); err != nil {
			return nil, err
		}
	}
}

// ping sends echo requests of ICMP, or of ICMP version 6.
func ping(args agent.Arguments, _ func(any)) (any, error) {
	text, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return nil, err
	}
	count, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	size, err := args.Optional(2, 56)
	if err != nil {
		return nil, err
	}
	by := pingProtocol(address)
	conn, err := icmp.ListenPacket(by.network, by.any)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	var result proto.Echoes
	for seq := range count {
		result.Sent++
		ok, err := by.pong(conn, address, seq, payload(size))
		if err != nil {
			return nil, err
		}
		if !ok {
			result.Lost = append(result.Lost, size)
			continue
		}
		result.Answered++
	}
	return result, nil
}

// pinger is one of the two versions of ICMP.
type pinger struct {
	network, any   string // to listen on
	echo, answer   icmp.Type
	protocolNumber int
}

// pingProtocol returns the version that an address belongs to.
func pingProtocol(address netip.Addr) pinger {
	if address.Is6() {
		const icmpv6 = 58
		return pinger{"ip6:ipv6-icmp", "::", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, icmpv6}
	}
	return pinger{"ip4:icmp", "0.0.0.0", ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, 1}
}

// pong sends one echo request and tells whether its answer came.
func (p pinger) pong(conn *icmp.PacketConn, to netip.Addr, seq int, data []byte) (bool, error) {
	const id = 0x5652
	request := icmp.Message{Type: p.echo, Body: &icmp.Echo{ID: id, Seq: seq, Data: data}}
	packet, err := request.Marshal(nil)
	if err != nil {
		return false, err
	}
	if _, err := conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return false, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(echoWait)); err != nil {
		return false, err
	}
	buf := make([]byte, 65536)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return false, nil
		}
		answer, err := icmp.ParseMessage(p.protocolNumber, buf[:n])
		if err != nil || answer.Type != p.answer {
			continue
		}
		echo, ok := answer.Body.(*icmp.Echo)
		if ok && echo.ID == id && echo.Seq == seq && bytes.Equal(echo.Data, data) {
			return true, nil
		}
	}
}
