package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/vringnet/vring/integration/lab/talk"
)

// talkLimit ends a conversation that hangs. It takes seconds, on a machine that does nothing else.
const talkLimit = 3 * time.Minute

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePort returns a port of the loopback that is free for both TCP and UDP, for vring to open. It is none of those that
// the kernel gives to outgoing connections, and none of those that were taken before.
func freePort(taken map[int]bool) (int, error) {
	const first, last, tries = 16384, 32767, 1000
	for range tries {
		port := first + rand.IntN(last-first+1)
		if taken[port] {
			continue
		}
		l, err := net.Listen("tcp4", local(port))
		if err != nil {
			continue
		}
		c, err := net.ListenPacket("udp4", local(port))
		_ = l.Close()
		if err == nil {
			return port, c.Close()
		}
	}
	return 0, errors.New("no port is free")
}

// listen serves the guests' conversations on the host.
func (s *soak) listen() (port int, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	s.closers = append(s.closers, l)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if r, err := talk.Answer(conn.(*net.TCPConn), talkLimit); err == nil {
					s.ledger.answered(r)
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// call does one thing after the other with a guest, until ctx ends.
func (s *soak) call(ctx context.Context, g *vm, r *rand.Rand) {
	for ctx.Err() == nil {
		switch n := r.IntN(20); {
		case n < 8:
			s.callOut(ctx, g, s.script(r))
		case n < 16:
			s.callIn(g, s.script(r))
		case n < 17:
			s.callNobody(g)
		case n < 18:
			s.guestCallsNobody(ctx, g)
		case n < 19:
			s.connectAndLeave(g)
		default:
			s.datagram(g, r)
		}
		sleep(ctx, time.Duration(r.Int64N(int64(200*time.Millisecond))))
	}
}

// script draws what is to be done; small conversations are as likely as large ones.
func (s *soak) script(r *rand.Rand) talk.Script {
	size := func() int64 {
		return int64(math.Pow(float64(s.opt.largest), r.Float64()))
	}
	return talk.Script{Kind: talk.Kind(r.IntN(int(talk.Kinds))), Up: size(), Down: size()}
}

// callOut lets the guest call the host.
func (s *soak) callOut(ctx context.Context, g *vm, script talk.Script) {
	script = s.ledger.begin(g, script)
	// What has begun is brought to its end, also when the time of unrest is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*talkLimit)
	defer cancel()
	var r talk.Result
	host := net.JoinHostPort("10.0.2.2", strconv.Itoa(s.port))
	if err := g.console().Do(ctx, &r, "talk", host, script.ID, int(script.Kind), script.Up, script.Down); err != nil {
		r = talk.Result{Outcome: talk.Broken, Error: err.Error()}
	}
	s.ledger.called(script.ID, r)
}

// callIn calls the guest, now and then by a unix socket.
func (s *soak) callIn(g *vm, script talk.Script) {
	script = s.ledger.begin(g, script)
	network, address := "tcp4", local(g.forward)
	if script.ID%4 == 0 && !script.Kind.Resets() { // unix sockets know no reset
		network, address = "unix", g.path
	}
	conn, err := net.DialTimeout(network, address, talkLimit)
	if err != nil {
		s.ledger.called(script.ID, talk.Result{Outcome: talk.Broken, Error: err.Error()})
		return
	}
	s.ledger.called(script.ID, talk.Call(conn.(talk.Conn), script, talkLimit))
}

// callNobody calls a port of the guest at which nobody listens: the guest's refusal must come as a reset.
func (s *soak) callNobody(g *vm) {
	conn, err := net.DialTimeout("tcp4", local(g.nobody), talkLimit)
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(talkLimit))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		s.fault(fmt.Sprintf("guest %s refused a connection, which was told as: %v", g.address, err))
	}
}

// guestCallsNobody lets the guest call a port of the host that is closed to it.
func (s *soak) guestCallsNobody(ctx context.Context, g *vm) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), talkLimit)
	defer cancel()
	err := g.console().Do(ctx, nil, "talk", "10.0.2.2:9", 0, 0, 0, 0)
	if err == nil || ctx.Err() != nil {
		s.fault(fmt.Sprintf("guest %s called a closed port, which came to: %v", g.address, err))
	}
}

// connectAndLeave connects to the guest, and resets at once. A guest that is down is quicker.
func (s *soak) connectAndLeave(g *vm) {
	conn, err := net.DialTimeout("tcp4", local(g.forward), talkLimit)
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		err = conn.Close()
	}
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		s.fault(fmt.Sprintf("forward into guest %s: %v", g.address, err))
	}
}

// datagram sends some into the guest and looks at what comes back, if anything does.
func (s *soak) datagram(g *vm, r *rand.Rand) {
	conn, err := net.Dial("udp4", local(g.echo))
	if err != nil {
		s.fault(err.Error())
		return
	}
	defer conn.Close()
	payload := bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(4000))
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(payload); err != nil {
		return
	}
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	if err == nil && !bytes.Equal(buf[:n], payload) {
		s.fault(fmt.Sprintf("guest %s sent another datagram back, of %d bytes instead of %d", g.address, n, len(payload)))
	}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
