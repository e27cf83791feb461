package segments

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Run is some datagrams that are sent by one system call. Together they have at most 65,507 bytes.
type Run struct {
	Number int // the same whenever the run is sent again
	Count  int // datagrams
	Size   int // bytes of each, 8 at least
}

// payload returns the datagrams of the run, one behind the other.
func (r Run) payload() []byte {
	all := make([]byte, 0, r.Count*r.Size)
	for i := range r.Count {
		datagram := make([]byte, r.Size)
		binary.BigEndian.PutUint32(datagram, uint32(r.Number))
		binary.BigEndian.PutUint32(datagram[4:], uint32(i))
		for at := 8; at < r.Size; at++ {
			datagram[at] = byte(r.Number + i + at)
		}
		all = append(all, datagram...)
	}
	return all
}

// collected are the datagrams of a run that have come, by their places in it.
type collected map[int]bool

// add notes a datagram, if it is one of the run and as it was sent.
func (c collected) add(r Run, datagram []byte) {
	if len(datagram) != r.Size || int(binary.BigEndian.Uint32(datagram)) != r.Number {
		return
	}
	i := int(binary.BigEndian.Uint32(datagram[4:]))
	if i < r.Count && string(r.payload()[i*r.Size:][:r.Size]) == string(datagram) {
		c[i] = true
	}
}

// Datagrams may be lost by anyone on the way, so each run is tried a few times.
const (
	tries = 5
	wait  = 2 * time.Second
)

// Ask sends a run on a connected socket, again if not all of it comes back, and returns how many datagrams have come back.
func Ask(conn *net.UDPConn, run Run) (answered int, err error) {
	if err := cutAt(conn, run.Size); err != nil {
		return 0, err
	}
	came := make(collected)
	for range tries {
		if _, err = conn.Write(run.payload()); err != nil {
			continue // such as the answer to an earlier datagram
		}
		if came.collect(conn, run); len(came) == run.Count {
			return len(came), nil
		}
	}
	return len(came), err
}

// collect reads until a run is whole, or no more comes.
func (c collected) collect(conn *net.UDPConn, run Run) {
	buf := make([]byte, 1<<16)
	for len(c) < run.Count {
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return
		}
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		c.add(run, buf[:n])
	}
}

// Answer sends each run back, by one system call too, when all of it has come. All runs must have count datagrams of size
// bytes. It returns nil when the socket is closed.
func Answer(conn *net.UDPConn, count, size int) error {
	if err := cutAt(conn, size); err != nil {
		return err
	}
	runs := make(map[int]collected)
	buf := make([]byte, 1<<16)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil || n < size:
			continue
		}
		run := Run{Number: int(binary.BigEndian.Uint32(buf)), Count: count, Size: size}
		if runs[run.Number] == nil {
			runs[run.Number] = make(collected)
		}
		runs[run.Number].add(run, buf[:n])
		if len(runs[run.Number]) == count {
			delete(runs, run.Number)
			_, _ = conn.WriteToUDPAddrPort(run.payload(), peer) // whoever asks tries again
		}
	}
}

// cutAt makes the kernel cut what is sent into datagrams of a size (UDP_SEGMENT, udp(7)).
func cutAt(conn *net.UDPConn, size int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
	return errors.Join(err, failed)
}
