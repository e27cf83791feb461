package stream

import (
	"fmt"
	"io"
	"time"
)

// bufferSize is what one call writes or reads at most: much, because a system call is dear in User-mode Linux.
const bufferSize = 256 << 10

// Conn is an end of a connection, for example a *net.TCPConn.
type Conn interface {
	io.ReadWriter
	CloseWrite() error
}

// SayGo tells the sender to begin.
func SayGo(c io.Writer) error {
	_, err := c.Write([]byte{0})
	return err
}

// AwaitGo waits until the receiver is ready.
func AwaitGo(c io.Reader) error {
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// Send writes for the given time, and returns once the receiver has read everything. n counts the bytes.
func Send(c Conn, d time.Duration) (n int64, err error) {
	buf := make([]byte, bufferSize)
	for start := time.Now(); time.Since(start) < d; {
		written, err := c.Write(buf)
		n += int64(written)
		if err != nil {
			return n, err
		}
	}
	if err := c.CloseWrite(); err != nil {
		return n, err
	}
	return n, awaitEnd(c)
}

// awaitEnd waits until the receiver closes.
func awaitEnd(c io.Reader) error {
	switch n, err := c.Read(make([]byte, 1)); {
	case err == io.EOF:
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("the receiver has sent %d bytes", n)
	}
}

// Receive reads to the end of the stream. n counts the bytes. The caller then closes the connection.
func Receive(c io.Reader) (n int64, err error) {
	buf := make([]byte, bufferSize)
	for {
		read, err := c.Read(buf)
		n += int64(read)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
