package bootcheck

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
)

// Port is the guest's TCP port for requests.
const Port = 7

// prefix begins the lines of the console that are for the host.
const prefix = "vring-check: "

// States of the guest, behind prefix.
const (
	stateReady  = "ready" // it has a lease and answers requests
	stateFailed = "failed"
)

// Requests, each a line at the beginning of a connection. Nothing depends on the end of one direction, since not all programs that Compare
// measures pass it on.
const (
	requestDescribe = "describe" // the answer is a Guest
	requestReceive  = "receive"  // with a number of bytes, which follow as data; the answer is a Received
	requestSend     = "send"     // with a number of bytes: the answer is data
	requestDial     = "dial"     // with an address and a number of bytes: a requestReceive goes there; the answer is its peer's
	requestEcho     = "echo"     // the rest of the connection is sent back
	requestRebind   = "rebind"   // the driver lets go of the card and takes it again; the console tells when there is a lease
	requestEnd      = "end"      // the guest switches itself off
)

// Guest is what the guest sees.
type Guest struct {
	Release    string            // of its kernel
	Address    string            // of its card, with the length of the prefix
	Router     string            //
	QueuePairs int               // in use
	Interrupts map[string]uint64 // how often each of the card's interrupts has come, by the name that the driver gave it
	MTU        int
}

// Received is what one end tells of the data that it got.
type Received struct {
	Bytes int64
	Wrong int64  // position of the first byte that was not the one sent, -1 if there is none
	Error string `json:",omitempty"` // why no more has come
}

// block is repeated as data: long enough that data in the wrong place is noticed.
var block = func() []byte {
	b := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(b) // it never fails
	return b
}()

// sendData writes so many bytes of data.
func sendData(w io.Writer, bytes int64) error {
	for bytes > 0 {
		n, err := w.Write(block[:min(bytes, int64(len(block)))])
		if err != nil {
			return err
		}
		bytes -= int64(n)
	}
	return nil
}

// receiveData reads so many bytes of data, or to the end if there are fewer, and compares them with what sendData writes.
func receiveData(r io.Reader, bytes int64) (Received, error) {
	got := Received{Wrong: -1}
	buf := make([]byte, 256<<10)
	for got.Bytes < bytes {
		n, err := r.Read(buf[:min(int64(len(buf)), bytes-got.Bytes)])
		if at := firstWrong(buf[:n], got.Bytes); at >= 0 && got.Wrong < 0 {
			got.Wrong = got.Bytes + at
		}
		got.Bytes += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// firstWrong returns the index of the first byte that is not that of data at a position, -1 if there is none.
func firstWrong(data []byte, position int64) int64 {
	for done := 0; done < len(data); {
		want := block[(position+int64(done))%int64(len(block)):]
		part := data[done:min(len(data), done+len(want))]
		if !bytes.Equal(part, want[:len(part)]) {
			for i := range part {
				if part[i] != want[i] {
					return int64(done + i)
				}
			}
		}
		done += len(part)
	}
	return -1
}

// sendValue writes a value as a line.
func sendValue(w io.Writer, value any) error { return json.NewEncoder(w).Encode(value) }

// lineLimit bounds lines that a peer sends, in bytes.
const lineLimit = 64 << 10

// receiveValue reads a line into a value.
func receiveValue(r io.Reader, value any) error {
	line, err := bufio.NewReader(io.LimitReader(r, lineLimit)).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no whole answer: %w", err)
	}
	return json.Unmarshal(line, value)
}
