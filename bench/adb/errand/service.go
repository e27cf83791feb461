package errand

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Order is what a client asks for.
type Order byte

// All orders.
const (
	Take  Order = 't' // receive so many bytes and answer one
	Give  Order = 'g' // send so many bytes
	Echo  Order = 'e' // send back every byte, until the client ends
	Last  Order = 'l' // read until the client's half close, then say Farewell and end
	Reset Order = 'r' // reset the connection
	Die   Order = 'd' // end the whole process by SIGKILL; what the client has sent behind the order is not read
)

// Farewell is what a client gets that has only closed its own direction.
const Farewell = "farewell"

const (
	orderSize = 9
	chunk     = 256 << 10
)

// Serve does the errands of every client, until the listener is closed.
func Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			do(conn.(*net.TCPConn))
		}()
	}
}

// do reads an order and obeys. Errors are the client's to notice.
func do(conn *net.TCPConn) {
	var order [orderSize]byte
	if _, err := io.ReadFull(conn, order[:]); err != nil {
		return
	}
	n := int64(binary.BigEndian.Uint64(order[1:]) & (1<<62 - 1))
	switch Order(order[0]) {
	case Take:
		take(conn, n)
	case Give:
		_ = send(conn, n)
	case Echo:
		echo(conn)
	case Last:
		_, _ = io.Copy(io.Discard, conn)
		_, _ = io.WriteString(conn, Farewell)
	case Reset:
		_ = conn.SetLinger(0)
	case Die:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

func take(conn net.Conn, n int64) {
	if receive(conn, n) == nil {
		_, _ = conn.Write([]byte{0})
	}
}

// receive reads and drops n bytes.
func receive(r io.Reader, n int64) error {
	for buf := make([]byte, min(chunk, n)); n > 0; {
		got, err := r.Read(buf[:min(int64(len(buf)), n)])
		if n -= int64(got); err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// send writes n bytes.
func send(w io.Writer, n int64) error {
	for buf := make([]byte, min(chunk, n)); n > 0; n -= int64(len(buf)) {
		if _, err := w.Write(buf[:min(int64(len(buf)), n)]); err != nil {
			return err
		}
	}
	return nil
}

// echo works byte by byte: a client sends one and waits.
func echo(conn net.Conn) {
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}
