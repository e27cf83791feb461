package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/vringnet/vring/internal/control"
)

// farewell is how long the end of a capture is waited for when the page is left.
const farewell = 10 * time.Second

// recording is a capture of a guest's frames to a file.
type recording struct {
	stream *control.Stream
	file   *os.File
	bytes  atomic.Int64  // written until now
	ended  chan struct{} // is closed when the file is complete
}

// Messages to the page.
type (
	recordingBegun struct {
		recording *recording
		err       error
	}
	recordingEnded struct{ err error }
)

// record begins a capture of the guest that is chosen, or ends the one that there is.
func (p *page) record() tea.Cmd {
	if r := p.recording; r != nil {
		return func() tea.Msg {
			_ = r.stream.Stop() // what was captured until now still comes
			return nil
		}
	}
	guest := p.guest
	if guest == "" {
		return nil
	}
	return func() tea.Msg {
		r, err := beginRecording(p.ctx, p.client, guest, time.Now())
		return recordingBegun{r, err}
	}
}

// beginRecording captures to a new file in the current directory, which only this user can read.
func beginRecording(ctx context.Context, client *control.Client, guest string, now time.Time) (*recording, error) {
	stream, err := client.Stream(ctx, control.GuestPath(guest, "capture", nil))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("vring-%s-%s.pcapng", strings.NewReplacer("/", "-", ":", "-").Replace(guest), now.Format("20060102-150405"))
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	return &recording{stream: stream, file: file, ended: make(chan struct{})}, nil
}

// begun takes a capture over that has begun.
func (p *page) begun(m recordingBegun) tea.Cmd {
	if m.err != nil {
		p.message = "no capture: " + m.err.Error()
		return nil
	}
	p.recording = m.recording
	return func() tea.Msg { return recordingEnded{m.recording.write()} }
}

// write writes until the capture ends.
func (r *recording) write() error {
	defer close(r.ended)
	_, err := io.Copy(r, r.stream)
	return errors.Join(err, r.stream.Close(), r.file.Close())
}

// Write implements io.Writer for io.Copy.
func (r *recording) Write(b []byte) (int, error) {
	n, err := r.file.Write(b)
	r.bytes.Add(int64(n))
	return n, err
}

// over tells of a capture that has ended.
func (p *page) over(m recordingEnded) {
	p.message = p.recording.text()
	if m.err != nil {
		p.message = "the capture broke off: " + m.err.Error() + "; " + p.message
	}
	p.recording = nil
}

// text tells where the capture goes and how long it is.
func (r *recording) text() string {
	return fmt.Sprintf("%s: %sB", r.file.Name(), scaled(float64(r.bytes.Load())))
}

// finish ends a capture when the page is left, and returns what is told of it; "" if there is none.
func (p *page) finish() string {
	r := p.recording
	if r == nil {
		return ""
	}
	_ = r.stream.Stop()
	select {
	case <-r.ended:
	case <-time.After(farewell):
		_ = r.stream.Close()
	}
	return r.text()
}
