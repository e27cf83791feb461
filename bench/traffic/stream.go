package traffic

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"time"
)

// bufferSize is what one call writes or reads at most: much, because a system call is dear in User-mode Linux.
const bufferSize = 256 << 10

// sendZeros sends for a time, at least once, and is done when the server has read everything.
func sendZeros(_ context.Context, server *peer, p Plan) (c Counts, end time.Time, err error) {
	buf := make([]byte, bufferSize)
	for start := time.Now(); c.Sent == 0 || time.Since(start) < p.Length; {
		n, err := server.control.Write(buf)
		c.Sent += int64(n)
		if err != nil {
			return c, end, err
		}
	}
	err = server.finish()
	return c, time.Now(), err
}

// receiveAll reads to the end of the stream.
func receiveAll(_ *Server, control *socket, _ Plan) (c Counts, end time.Time, err error) {
	c.Received, err = readAll(control, func([]byte) error { return nil })
	return c, time.Now(), err
}

// readAll hands all that comes to use, up to the end of the stream, and counts it.
func readAll(r io.Reader, use func([]byte) error) (n int64, err error) {
	buf := make([]byte, bufferSize)
	for {
		read, err := r.Read(buf)
		n += int64(read)
		if err == io.EOF {
			return n, nil
		}
		if err == nil {
			err = use(buf[:read])
		}
		if err != nil {
			return n, err
		}
	}
}

// countBothWays sends a counting stream for a time, and checks the one that the server sends.
func countBothWays(_ context.Context, server *peer, p Plan) (Counts, time.Time, error) {
	return exchangeCounts(server.control, p.Length)
}

func answerCount(_ *Server, control *socket, p Plan) (Counts, time.Time, error) {
	return exchangeCounts(control, p.Length)
}

// exchangeCounts sends a counting stream for a time, at least a buffer of it, and at the same time checks the one that comes. It is
// done when both have ended.
func exchangeCounts(conn *socket, d time.Duration) (c Counts, end time.Time, err error) {
	var check counter
	received := make(chan error, 1)
	go func() {
		var err error
		c.Received, err = readAll(conn, check.verify)
		received <- err
	}()
	deadline := time.Now().Add(d)
	sent, err := sendCounting(conn, func(sent int64) bool { return sent == 0 || time.Now().Before(deadline) }, func([]byte) {})
	if err != nil {
		conn.shut()
	}
	if receiveErr := <-received; receiveErr != nil { // what was found in the stream says more than how it broke
		err = receiveErr
	}
	c.Sent = sent
	return c, time.Now(), err
}

// sendCounting sends a counting stream for as long as more says so, which is told how much was sent. use gets what was sent.
func sendCounting(conn *socket, more func(sent int64) bool, use func([]byte)) (sent int64, err error) {
	buf := make([]byte, bufferSize)
	var count counter
	for more(sent) {
		count.fill(buf)
		n, err := conn.Write(buf)
		sent += int64(n)
		if err != nil {
			return sent, err
		}
		use(buf)
	}
	return sent, conn.CloseWrite()
}

// sendDigest sends a number of bytes, rounded up to whole buffers, and sums them.
func sendDigest(_ context.Context, server *peer, p Plan) (c Counts, end time.Time, err error) {
	sum := sha256.New()
	c.Sent, err = sendCounting(server.control, func(sent int64) bool { return sent < p.Bytes }, func(b []byte) { sum.Write(b) })
	if err == nil {
		err = awaitEnd(server.control)
	}
	c.SHA256 = digest(sum)
	return c, time.Now(), err
}

// receiveDigest sums what comes. Its order is not checked but by the sum.
func receiveDigest(_ *Server, control *socket, _ Plan) (c Counts, end time.Time, err error) {
	sum := sha256.New()
	c.Received, err = readAll(control, func(b []byte) error { _, err := sum.Write(b); return err })
	c.SHA256 = digest(sum)
	return c, time.Now(), err
}

func digest(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }
