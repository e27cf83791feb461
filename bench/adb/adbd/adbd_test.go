package adbd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// peer is a host that may lie.
type peer struct {
	*testing.T
	net.Conn
	ended chan error // what the device thought of it
}

// connect makes a device and a connection to it.
func connect(t *testing.T) *peer {
	here, there := net.Pipe()
	p := &peer{t, here, make(chan error, 1)}
	go func() { p.ended <- ServeHost(there) }()
	t.Cleanup(func() { here.Close() })
	require.NoError(t, here.SetDeadline(time.Now().Add(time.Minute)))
	return p
}

// greeted returns a host that has done so.
func greeted(t *testing.T) *peer {
	p := connect(t)
	p.send(Connect, Version, MaxPayload, "host::features=")
	h, payload := p.receive()
	require.Equal(t, Header{Connect, Version, MaxPayload, uint32(len(banner))}, h)
	require.Equal(t, banner, payload)
	return p
}

func (p *peer) send(c Command, arg0, arg1 uint32, payload string) {
	_, err := p.Write(Append(nil, Header{Command: c, Arg0: arg0, Arg1: arg1}, []byte(payload)))
	require.NoError(p, err)
}

func (p *peer) receive() (Header, string) {
	h, err := ReadHeader(p.Conn)
	require.NoError(p, err)
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(p.Conn, payload)
	require.NoError(p, err)
	return h, string(payload)
}

// expect receives a message without payload.
func (p *peer) expect(c Command, arg0, arg1 uint32) {
	h, _ := p.receive()
	require.Equal(p, Header{Command: c, Arg0: arg0, Arg1: arg1}, h)
}

// open opens stream 7 to a service and returns the device's number.
func (p *peer) open(service net.Listener) uint32 {
	p.send(Open, 7, 0, name(service))
	h, _ := p.receive()
	require.Equal(p, Okay, h.Command)
	require.EqualValues(p, 7, h.Arg1)
	return h.Arg0
}

func name(l net.Listener) string { return fmt.Sprintf("tcp:%d\x00", l.Addr().(*net.TCPAddr).Port) }

// serve runs a service that gets one connection.
func serve(t *testing.T, do func(conn *net.TCPConn)) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			do(conn.(*net.TCPConn))
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l
}

func TestAHeaderIsWhatAdbSends(t *testing.T) {
	wire := []byte("OKAY\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\xb0\xb4\xbe\xa6abc")
	require.Equal(t, wire, Append(nil, Header{Command: Okay, Arg0: 1, Arg1: 2}, []byte("abc")))
	h, err := ReadHeader(bytes.NewReader(wire))
	require.NoError(t, err)
	require.Equal(t, Header{Okay, 1, 2, 3}, h)
	require.Equal(t, "OKAY", h.Command.String())
}

func TestAHeaderThatLiesIsRefused(t *testing.T) {
	var b [headerSize]byte
	Header{Command: Write, Length: MaxPayload + 1}.put(b[:])
	_, err := ReadHeader(bytes.NewReader(b[:]))
	require.ErrorIs(t, err, ErrProtocol)
	Header{Command: Write}.put(b[:])
	b[20]++
	_, err = ReadHeader(bytes.NewReader(b[:]))
	require.ErrorIs(t, err, ErrProtocol)
	_, err = ReadHeader(bytes.NewReader(b[:5]))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func FuzzReadHeader(f *testing.F) {
	f.Add(Append(nil, Header{Command: Open, Arg0: 1}, []byte("tcp:1")))
	f.Fuzz(func(t *testing.T, wire []byte) {
		h, err := ReadHeader(bytes.NewReader(wire))
		if err != nil {
			return
		}
		require.LessOrEqual(t, h.Length, uint32(MaxPayload))
		again := make([]byte, headerSize)
		h.put(again)
		require.Equal(t, wire[:16], again[:16])
	})
}

func TestOnlyPortsAreServices(t *testing.T) {
	at, err := serviceAddress("tcp:10977\x00")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:10977", at)
	for _, bad := range []string{"", "shell:ls", "tcp:", "tcp:0", "tcp:65536", "tcp:-1", "tcp:80:host", "tcp:80\x00\x00"} {
		_, err := serviceAddress(bad)
		require.Error(t, err, bad)
	}
}

func TestAStreamCarriesDataBothWaysOnePayloadAtATime(t *testing.T) {
	service := serve(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	p := greeted(t)
	id := p.open(service)
	for _, size := range []int{0, 1, 100, MaxPayload} {
		payload := bytes.Repeat([]byte{byte(size)}, size)
		p.send(Write, 7, id, string(payload))
		var back []byte
		for acked := false; !acked || len(back) < size; {
			h, data := p.receive()
			switch h.Command {
			case Okay:
				acked = true
			case Write:
				back = append(back, data...)
				p.send(Okay, 7, id, "")
			}
		}
		require.True(t, bytes.Equal(payload, back))
	}
}

func TestTheServicesEndAndItsResetAreTheSameClose(t *testing.T) {
	for _, linger := range []int{-1, 0} {
		opened := make(chan struct{})
		service := serve(t, func(conn *net.TCPConn) {
			<-opened
			_ = conn.SetLinger(linger)
		})
		p := greeted(t)
		id := p.open(service)
		close(opened)
		p.expect(Close, id, 7)
	}
}

func TestTheHostsCloseLetsWhatItHasSentArrive(t *testing.T) {
	got := make(chan string, 1)
	service := serve(t, func(conn *net.TCPConn) {
		all, _ := io.ReadAll(conn)
		got <- string(all)
	})
	p := greeted(t)
	id := p.open(service)
	p.send(Write, 7, id, "last words")
	p.expect(Okay, id, 7)
	p.send(Close, 7, id, "")
	require.Equal(t, "last words", <-got)
	p.send(Write, 7, id, "too late") // it might not have known
	p.send(Okay, 7, id, "")
}

func TestARefusedPortAndAnUnknownServiceAreClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	p := greeted(t)
	for _, service := range []string{name(l), "shell:id\x00"} {
		p.send(Open, 7, 0, service)
		p.expect(Close, 0, 7)
	}
}

func TestTheHostsEndEndsTheConnectionsToServices(t *testing.T) {
	ended := make(chan struct{})
	service := serve(t, func(conn *net.TCPConn) {
		_, _ = io.ReadAll(conn)
		close(ended)
	})
	p := greeted(t)
	p.open(service)
	require.NoError(t, p.Close())
	<-ended
	require.NoError(t, <-p.ended)
}

func TestAHostThatBreaksTheProtocolLosesItsConnection(t *testing.T) {
	quiet := func(conn *net.TCPConn) { _, _ = io.ReadAll(conn) }
	for what, lie := range map[string]func(p *peer){
		"unknown command":   func(p *peer) { p.send(0x11111111, 0, 0, "") },
		"second CNXN":       func(p *peer) { p.send(Connect, Version, MaxPayload, "") },
		"stream 0":          func(p *peer) { p.send(Open, 0, 0, "") },
		"delayed ack":       func(p *peer) { p.send(Open, 1, 1<<20, "") },
		"long service":      func(p *peer) { p.send(Open, 1, 0, string(make([]byte, maxService+1))) },
		"foreign stream":    func(p *peer) { p.send(Write, 8, p.open(serve(p.T, quiet)), "") },
		"OKAY for nothing":  func(p *peer) { p.send(Okay, 7, p.open(serve(p.T, quiet)), "") },
		"payload too long":  func(p *peer) { p.raw(Header{Command: Write, Length: MaxPayload + 1}) },
		"end in the middle": func(p *peer) { p.raw(Header{Command: Open, Arg0: 1, Length: 5}); p.Close() },
		"no wait for OKAY":  threeAtOnce,
	} {
		t.Run(what, func(t *testing.T) {
			p := greeted(t)
			lie(p)
			require.Error(t, <-p.ended)
		})
	}
}

// raw sends a header alone.
func (p *peer) raw(h Header) {
	var b [headerSize]byte
	h.put(b[:])
	_, _ = p.Write(b[:])
}

// threeAtOnce sends payloads without waiting for the device, which is stuck with the OKAY of the first one at the latest.
func threeAtOnce(p *peer) {
	id := p.open(serve(p.T, func(conn *net.TCPConn) { _, _ = io.ReadAll(conn) }))
	var wire []byte
	for range 3 {
		wire = Append(wire, Header{Command: Write, Arg0: 7, Arg1: id}, []byte("more"))
	}
	_, _ = p.Write(wire)
}

func TestAHostThatBeginsWrongIsNotServed(t *testing.T) {
	for what, h := range map[string]Header{
		"no greeting":    {Command: Open, Arg0: 1},
		"with checksums": {Command: Connect, Arg0: Version - 1, Arg1: MaxPayload},
		"small payloads": {Command: Connect, Arg0: Version, Arg1: 4096},
	} {
		t.Run(what, func(t *testing.T) {
			p := connect(t)
			p.raw(h)
			require.ErrorIs(t, <-p.ended, ErrProtocol)
		})
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- Serve(l) }()
	require.NoError(t, l.Close())
	require.NoError(t, <-ended)
}
