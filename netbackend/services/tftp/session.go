package tftp

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"time"
)

const (
	// usualTimeout is how long a session waits for an acknowledgement before it sends again, without the option.
	usualTimeout = time.Second
	// maxTries is how often it sends the same at most.
	maxTries = 6
)

// File is a file that is read. Its size is that of when it was opened.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// Opener opens the file of a name that CleanName has returned. The error fs.ErrNotExist is told as such, and any other one as that the file
// cannot be read, without its text: that may tell of the host.
type Opener func(name string) (File, error)

// Session is what one client asks for: one file at a time, and another one after that. One goroutine at a time may use it.
type Session struct {
	open     Opener
	maxBlock int // bytes that a block has at most
	send     func(packet []byte)

	file    File     // nil between transfers
	options []option // acknowledged by block 0; none if blocks begin at once
	block   int64    // bytes
	window  int64    // blocks
	timeout time.Duration

	// Blocks are counted from 1 and without an end; what is on the wire are the lower 16 bits. Block 0 is the acknowledgement of options.
	acked    int64 // all blocks up to this one have come
	sent     int64 // the last one that was sent
	last     int64 // of the file
	tries    int   // so often was sent what follows acked
	deadline time.Time
	out      []byte
}

// NewSession returns a session of nobody yet. Blocks have maxBlock bytes at most, MaxBlock or less, and minBlock or more. send sends a packet to the client, which is
// not used after it returns; what could not be sent is lost.
func NewSession(open Opener, maxBlock int, send func(packet []byte)) *Session {
	return &Session{open: open, maxBlock: min(max(maxBlock, minBlock), MaxBlock), send: send}
}

// Busy reports whether a file is being sent.
func (s *Session) Busy() bool { return s.file != nil }

// Deadline is when Timeout is to be called, if no datagram comes before; the zero time is never.
func (s *Session) Deadline() time.Time { return s.deadline }

// Close ends the session.
func (s *Session) Close() { s.end() }

// Datagram is what the client has sent, at a time.
func (s *Session) Datagram(p []byte, now time.Time) {
	if len(p) < headerLen {
		s.refuse(codeIllegal, errIllegal.Error())
		return
	}
	switch binary.BigEndian.Uint16(p) {
	case opRead:
		s.read(p[2:], now)
	case opWrite:
		s.refuse(codeAccess, "files can only be read here")
	case opACK:
		s.acknowledge(binary.BigEndian.Uint16(p[2:]), now)
	case opError:
		s.end() // an error is not answered (RFC 1350 section 7)
	default:
		s.refuse(codeIllegal, errIllegal.Error())
	}
}

// Timeout is that the deadline has passed.
func (s *Session) Timeout(now time.Time) {
	if s.file == nil || now.Before(s.deadline) {
		return
	}
	if s.tries == maxTries {
		s.end()
		return
	}
	s.sendAgain(now)
}

// refuse tells the client that it does not get what it wants, and ends what it got.
func (s *Session) refuse(code uint16, text string) {
	s.end()
	s.out = appendError(s.out[:0], code, text)
	s.send(s.out)
}

// end ends a transfer, if there is one.
func (s *Session) end() {
	if s.file != nil {
		_ = s.file.Close()
	}
	s.file, s.deadline = nil, time.Time{}
}

// read begins a transfer.
func (s *Session) read(p []byte, now time.Time) {
	r, err := parseRequest(p)
	if err != nil {
		s.refuse(codeIllegal, err.Error())
		return
	}
	s.end() // a client that asks again has not seen the answer
	if r.mode != "octet" {
		s.refuse(codeIllegal, "the only mode is octet")
		return
	}
	clean, err := CleanName(r.name)
	if err != nil {
		s.refuse(codeAccess, "the file cannot be read: "+err.Error())
		return
	}
	f, err := s.open(clean)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.refuse(codeNotFound, "there is no such file: "+clean)
	case err != nil:
		s.refuse(codeAccess, "the file cannot be read: "+clean)
	default:
		s.begin(&r, f, now)
	}
}

// begin sends the first of a file.
func (s *Session) begin(r *request, f File, now time.Time) {
	s.file, s.options = f, nil
	s.block, s.window, s.timeout = min(defaultBlock, int64(s.maxBlock)), 1, usualTimeout
	for _, o := range r.options {
		switch o.name {
		case "blksize":
			o.value = min(o.value, int64(s.maxBlock))
			s.block = o.value
		case "windowsize":
			o.value = min(o.value, maxWindow)
			s.window = o.value
		case "timeout":
			s.timeout = seconds(o.value)
		case "tsize":
			o.value = f.Size()
		}
		s.options = append(s.options, o)
	}
	s.last = f.Size()/s.block + 1 // the last block is shorter than the others, and may be empty
	s.acked, s.sent = s.first()-1, s.first()-1
	s.tries = 0
	s.sendAgain(now)
}

// first is the number of the first packet of the transfer.
func (s *Session) first() int64 {
	if len(s.options) > 0 {
		return 0
	}
	return 1
}

// sendAgain sends what follows what has come, once more.
func (s *Session) sendAgain(now time.Time) {
	s.sent = s.acked
	s.tries++
	s.sendWindow(now)
}

// sendWindow sends all blocks that the window allows, and waits for their acknowledgement.
func (s *Session) sendWindow(now time.Time) {
	s.deadline = now.Add(s.timeout)
	if s.sent < 0 {
		s.sent = 0
		s.out = appendOACK(s.out[:0], s.options)
		s.send(s.out)
		return
	}
	for s.sent < min(s.acked+s.window, s.last) {
		s.sent++
		if !s.sendBlock(s.sent) {
			return
		}
	}
}

// sendBlock sends one block, and reports whether it could be read.
func (s *Session) sendBlock(number int64) bool {
	from := (number - 1) * s.block
	n := int(min(s.block, s.file.Size()-from))
	s.out = binary.BigEndian.AppendUint16(s.out[:0], opData)
	s.out = binary.BigEndian.AppendUint16(s.out, uint16(number))
	s.out = append(s.out, make([]byte, n)...)
	if got, _ := s.file.ReadAt(s.out[headerLen:], from); got < n {
		s.refuse(codeOther, "the file has changed while it was sent")
		return false
	}
	s.send(s.out)
	return true
}

// acknowledge takes note that the client has all blocks up to one.
func (s *Session) acknowledge(number uint16, now time.Time) {
	if s.file == nil {
		return // of a transfer that is over
	}
	ahead := int64(uint16(number - uint16(s.acked)))
	switch {
	case s.acked+ahead > s.sent:
		// It is older than what was acknowledged, or nothing that was sent.
	case ahead == 0:
		// It comes twice. An answer would double what is on the way from then on (RFC 1123 section 4.2.3.1). If it says that the first block
		// of a window was lost, that comes again after the time-out.
	default:
		s.acked += ahead
		s.tries = 1
		if s.acked == s.last {
			s.end()
			return
		}
		s.sent = s.acked // the client wants what follows (RFC 7440 section 4)
		s.sendWindow(now)
	}
}
