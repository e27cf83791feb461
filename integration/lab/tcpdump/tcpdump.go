package tcpdump

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
)

const (
	program = "tcpdump"
	// limit bounds the wait for tcpdump to begin, to end and to print.
	limit = time.Minute
)

// Options describe a recording.
type Options struct {
	// Namespace is where the interface is.
	Namespace *netns.Namespace
	// Interface is its name.
	Interface string
	// Filter, in the language of pcap-filter(7), tells which frames to record; empty means all.
	Filter string
	// Dir is an existing directory for the file with the recording.
	Dir string
}

// Recording is a tcpdump that runs.
type Recording struct {
	*process.Process
	path, file string
}

// Frame is a frame that was recorded.
type Frame struct {
	From, To string // MAC addresses
	Length   int    // with the Ethernet header: that of a segment yet to be cut may be far above the MTU
	Text     string // what tcpdump tells of it
}

// Start begins to record. The recording ends with ctx.
func Start(ctx context.Context, opt Options) (*Recording, error) {
	path, err := guest.FindTool(program)
	if err != nil {
		return nil, err
	}
	r := &Recording{path: path, file: filepath.Join(opt.Dir, opt.Interface+".pcap")}
	// 16 MiB of buffer; and no change of user, who could not write to the directory.
	cmd := exec.Command(path, append([]string{
		"-i", opt.Interface, "-w", r.file, "-s", "0", "-B", "16384", "-U", "--immediate-mode", "-Z", "root",
	}, strings.Fields(opt.Filter)...)...)
	r.Process, err = process.Start(ctx, cmd, process.Options{Thread: opt.Namespace.Enter})
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(limit); !strings.Contains(r.Output(), "listening on"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("tcpdump does not begin: %s", r.Output()), r.Kill())
		}
	}
	return r, nil
}

// dropped is tcpdump's last word on frames that it has missed.
var dropped = regexp.MustCompile(`(\d+) packets? dropped by kernel`)

// Stop ends the recording and returns the frames, and how many more there were that the recorder was too slow for.
func (r *Recording) Stop() (frames []Frame, missed int, err error) {
	if err := r.Signal(syscall.SIGINT); err != nil {
		return nil, 0, err
	}
	if err := r.Wait(limit); err != nil {
		return nil, 0, err
	}
	last := dropped.FindStringSubmatch(r.Output())
	if last == nil {
		return nil, 0, fmt.Errorf("tcpdump does not tell what it has missed: %s", r.Output())
	}
	missed, err = strconv.Atoi(last[1])
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	// -vv: it tells of each checksum whether it is right.
	text, err := exec.CommandContext(ctx, r.path, "-r", r.file, "-nn", "-e", "-t", "-vv").Output()
	if err != nil {
		return nil, 0, fmt.Errorf("tcpdump -r: %w", err)
	}
	return Parse(string(text)), missed, nil
}

// heading is the beginning of what tcpdump -t -e tells of a frame; lines that begin otherwise belong to the frame before.
var heading = regexp.MustCompile(`^([0-9a-f:]{17}) > ([0-9a-f:]{17}), .*?length (\d+): `)

// Parse reads what tcpdump -nn -e -t -vv has printed.
func Parse(text string) []Frame {
	var frames []Frame
	for line := range strings.Lines(text) {
		fields := heading.FindStringSubmatch(line)
		if fields != nil {
			length, _ := strconv.Atoi(fields[3]) // digits only
			frames = append(frames, Frame{From: fields[1], To: fields[2], Length: length, Text: line})
			continue
		}
		if len(frames) > 0 {
			frames[len(frames)-1].Text += line
		}
	}
	return frames
}

// ChecksumRight tells whether the frame has a checksum of TCP, UDP or ICMP version 6, and a right one.
func (f Frame) ChecksumRight() bool {
	return strings.Contains(f.Text, "(correct)") || strings.Contains(f.Text, "udp sum ok")
}

// ChecksumWrong tells whether the frame has a checksum, and a wrong one. Neither is told of fragments.
func (f Frame) ChecksumWrong() bool {
	return strings.Contains(f.Text, "(incorrect") || strings.Contains(f.Text, "bad udp cksum") || strings.Contains(f.Text, "bad cksum")
}
