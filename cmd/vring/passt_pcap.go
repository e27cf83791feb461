package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/capture"
)

// frameFile is a file of pcap that gets all frames of the first guest, from before it is served until it is not any more: passt's --pcap.
// The file is opened before the sandbox is closed. Nil is none.
type frameFile struct {
	file *os.File
	log  *slog.Logger
}

// openFrames opens the file at path, "" for none. What is there is overwritten.
func openFrames(path string, log *slog.Logger) (*frameFile, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, captureMode)
	if err != nil {
		return nil, passtFault("Couldn't open pcap file %s: %v", path, errors.Unwrap(err))
	}
	return &frameFile{f, log}, nil
}

// begin begins to write. What it returns writes the rest, after the end of Serve.
func (f *frameFile) begin(d *daemon.Daemon) (end func(), err error) {
	if f == nil {
		return func() {}, nil
	}
	c, err := d.Capture(d.Networks()[0].Guest, daemon.CaptureOptions{SnapLen: capture.MaxSnapLen, Plain: true})
	if err != nil {
		return nil, errors.Join(err, f.file.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.write(ctx, c)
	}()
	return func() { cancel(); <-ended }, nil
}

// write writes until ctx ends, or until the file takes no more, which is no reason to end the guest.
func (f *frameFile) write(ctx context.Context, c *daemon.Capture) {
	err := c.Run(ctx, func(b []byte) error {
		_, err := f.file.Write(b)
		return err
	})
	if err = errors.Join(err, f.file.Close()); err != nil {
		f.log.Warn("the file of frames is not whole", "err", err)
	}
	f.log.Info("frames were written", "file", f.file.Name(), "packets", c.Packets(), "missed", c.Missed())
}
