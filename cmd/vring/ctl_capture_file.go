package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vringnet/vring/netbackend/capture/pcapng"
)

const (
	// maxRing is how many files --ring can have, and minRingSize how large each is at least: some packets of any length fit.
	maxRing     = 99999
	minRingSize = 64 << 10
	// captureMode is that of files, which have what guests say to each other.
	captureMode = 0o600
)

// captureSink takes the blocks of a capture.
type captureSink interface {
	take(b pcapng.Block) error
	Close() error
}

// captureCounts are what a capture tells in the end.
type captureCounts struct {
	packets uint64
	dropped map[int]uint64 // by interface
}

func (c *captureCounts) missed() (n uint64) {
	for _, dropped := range c.dropped {
		n += dropped
	}
	return n
}

// copyCapture hands a sink all blocks of a capture. The end of a connection in the middle of a block, as when vring ends, is an error.
func copyCapture(to captureSink, from io.Reader) (counts captureCounts, err error) {
	counts.dropped = map[int]uint64{}
	for s := pcapng.NewScanner(from); ; {
		b, err := s.Next()
		if errors.Is(err, io.EOF) {
			return counts, nil
		}
		if err != nil {
			return counts, fmt.Errorf("the capture ended early: %w", err)
		}
		if b.Kind == pcapng.Packet {
			counts.packets++
		}
		if told, ok := b.Counters(); ok {
			counts.dropped[told.Interface] = told.Dropped
		}
		if err := to.take(b); err != nil {
			return counts, err
		}
	}
}

// fileSink writes all into one file.
type fileSink struct {
	to    io.Writer
	close func() error
}

func newFileSink(path string) (*fileSink, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, captureMode)
	if err != nil {
		return nil, wrongUse(err)
	}
	return &fileSink{f, f.Close}, nil
}

func (f *fileSink) take(b pcapng.Block) error {
	_, err := f.to.Write(b.Text)
	return err
}

func (f *fileSink) Close() error { return f.close() }

// ringSink writes files one after the other, and removes the oldest when there are too many. Each is a capture by itself.
type ringSink struct {
	path     string
	files    int
	size     int64  // of each at most, unless one packet is larger
	preamble []byte // what stands at the beginning of each: the section and its interfaces
	serial   int    // of the present file, from 1 on; 0 before it is there
	now      *os.File
	written  int64
}

func newRingSink(path string, files int, size int64) *ringSink {
	return &ringSink{path: path, files: files, size: size}
}

// name is the name of a file by its number: the number stands before the ending.
func (r *ringSink) name(serial int) string {
	ending := filepath.Ext(r.path)
	return fmt.Sprintf("%s-%05d%s", strings.TrimSuffix(r.path, ending), serial, ending)
}

func (r *ringSink) take(b pcapng.Block) error {
	if b.Kind == pcapng.Section || b.Kind == pcapng.Interface {
		r.preamble = append(r.preamble, b.Text...)
		return nil
	}
	if r.now == nil || r.written+int64(len(b.Text)) > r.size && b.Kind == pcapng.Packet {
		if err := r.next(); err != nil {
			return err
		}
	}
	return r.write(b.Text)
}

func (r *ringSink) write(text []byte) error {
	r.written += int64(len(text))
	_, err := r.now.Write(text)
	return err
}

// next begins the next file.
func (r *ringSink) next() (err error) {
	if err := r.Close(); err != nil {
		return err
	}
	r.serial++
	if r.now, err = os.OpenFile(r.name(r.serial), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, captureMode); err != nil {
		return err
	}
	if oldest := r.serial - r.files; oldest > 0 {
		if err := os.Remove(r.name(oldest)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	r.written = 0
	return r.write(r.preamble)
}

func (r *ringSink) Close() error {
	if r.now == nil {
		return nil
	}
	return r.now.Close()
}

// parseSize reads a number of bytes, with K, M or G behind it for 1024 of them and so on.
func parseSize(text string) (int64, error) {
	digits, shift := text, 0
	for i, unit := range []string{"K", "M", "G"} {
		if rest, found := strings.CutSuffix(text, unit); found {
			digits, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && (n < 1 || n > math.MaxInt64>>shift) {
		err = strconv.ErrRange
	}
	return n << shift, err
}
