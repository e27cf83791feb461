package testpmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

const (
	program = "dpdk-testpmd"
	// answerWait bounds the wait for an answer: starting takes a second or two, any command less.
	answerWait = 60 * time.Second
	// lineBacklog is how many lines may wait between two commands; testpmd prints a few by itself.
	lineBacklog = 256
)

// The prompt says nothing about which command is done, so each is recognized by the last line that it prints.
const (
	endOfStart   = "TX offloads="
	endOfStop    = "Done."
	endOfStartup = "Done"
)

// endOfStats is the rule below the counters; the one above has a title in it.
var endOfStats = strings.Repeat("#", 76)

// Mode is what testpmd does with frames.
type Mode string

// The modes that tests use, see the testpmd manual, "set fwd".
const (
	Transmit Mode = "txonly"  // send as fast as possible
	Receive  Mode = "rxonly"  // swallow
	Flows    Mode = "flowgen" // send many flows, and count what comes
	Bounce   Mode = "macswap" // send back with addresses exchanged
	IO       Mode = "io"      // send back unchanged
)

// Options describe a run.
type Options struct {
	// Userland is the generation of DPDK.
	Userland userland.Userland
	// Socket is the vhost-user socket: to connect to as the front end, to make as the back end.
	Socket string
	// Backend runs the vhost driver instead of virtio-user.
	Backend bool
	// Dir is an existing directory for DPDK's run-time files.
	Dir string
	// Mode is what to do with frames, once started.
	Mode Mode
	// FrameSize is the length of the frames that Transmit and Flows send, in bytes; 0 means 64.
	FrameSize int
	// HugePages takes memory from 2 MiB pages that the host has set aside, instead of ordinary pages.
	HugePages bool
	// Queues is the number of queue pairs; 0 means 1.
	Queues int
	// Device are more arguments of the virtual device, such as "queue_size=256".
	Device []string
	// Args are more arguments of the application.
	Args []string
	// EAL are more arguments of DPDK itself, such as a second device.
	EAL []string
	// Thread, if set, runs on the thread that starts testpmd, as in process.Options.
	Thread func() error
}

// Testpmd is a running testpmd.
type Testpmd struct {
	*process.Process
	in    io.Writer
	lines <-chan string // closed at the end of the output
}

// Start starts testpmd and waits until it takes commands. Forwarding has not begun. It ends with ctx.
func Start(ctx context.Context, opt Options) (*Testpmd, error) {
	path, err := opt.Userland.Tool(program)
	if err != nil {
		return nil, err
	}
	// Into a pipe it would print in blocks of 4 KiB; stdbuf, of coreutils, makes it print lines.
	cmd := exec.Command("/usr/bin/stdbuf", append([]string{"-oL", path}, commandLine(opt)...)...)
	cmd.Env = append(cmd.Environ(), "XDG_RUNTIME_DIR="+opt.Dir)
	p, in, out, err := process.StartInteractive(ctx, cmd, process.Options{Thread: opt.Userland.Thread(opt.Thread)})
	if err != nil {
		return nil, err
	}
	lines := make(chan string, lineBacklog)
	go readLines(out, lines, p.Done())
	t := &Testpmd{Process: p, in: in, lines: lines}
	if _, err := t.readUntil(endOfStartup); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return t, nil
}

// commandLine returns the arguments: those of DPDK, and after "--" those of the application.
func commandLine(opt Options) []string {
	queues, size := max(1, opt.Queues), opt.FrameSize
	device, mainCore := "net_virtio_user0,path="+opt.Socket, "1"
	if opt.Backend {
		device, mainCore = "net_vhost0,iface="+opt.Socket, "0"
	}
	device += fmt.Sprintf(",queues=%d", queues)
	for _, argument := range opt.Device {
		device += "," + argument
	}
	if size == 0 {
		size = 64
	}
	args := []string{
		"-l", "0,1", "--main-lcore", mainCore, "--no-pci", "--no-telemetry",
		"--no-shconf", // no files that two processes would share
		"--vdev=" + device,
	}
	args = append(args, opt.memory()...)
	args = append(args, opt.EAL...)
	args = append(args, "--", "-i", "--total-num-mbufs=8192", "--forward-mode="+string(opt.Mode), fmt.Sprintf("--txpkts=%d", size),
		fmt.Sprintf("--rxq=%d", queues), fmt.Sprintf("--txq=%d", queues))
	return append(args, opt.Args...)
}

// HugePagesNeeded is how many pages of 2 MiB a testpmd with HugePages takes.
const HugePagesNeeded = 64

// memory returns the arguments that say what memory is made of. A front end can pass few files only, hence the single one.
func (o *Options) memory() []string {
	if o.HugePages {
		return []string{"--in-memory", "--single-file-segments", "-m", strconv.Itoa(2 * HugePagesNeeded)}
	}
	return []string{"--no-huge", "-m", "128"}
}

// readLines hands out the lines of the output.
func readLines(out io.Reader, lines chan<- string, done <-chan struct{}) {
	defer close(lines)
	for in := bufio.NewScanner(out); in.Scan(); {
		select {
		case lines <- in.Text():
		case <-done:
			return
		}
	}
}

// readUntil returns what testpmd prints up to a line that contains last.
func (t *Testpmd) readUntil(last string) (string, error) {
	var text strings.Builder
	limit := time.After(answerWait)
	for {
		select {
		case line, ok := <-t.lines:
			if !ok {
				return "", fmt.Errorf("testpmd has ended\n%s", t.Output())
			}
			text.WriteString(line + "\n")
			if strings.Contains(line, last) {
				return text.String(), nil
			}
		case <-limit:
			return "", fmt.Errorf("testpmd: no line %q\n%s", last, t.Output())
		}
	}
}

// command runs a command of testpmd's prompt and returns what it prints up to a line that contains last.
func (t *Testpmd) command(command, last string) (string, error) {
	if _, err := io.WriteString(t.in, command+"\n"); err != nil {
		return "", fmt.Errorf("testpmd: %q: %w", command, err)
	}
	return t.readUntil(last)
}

// Forward begins to send and receive.
func (t *Testpmd) Forward() error {
	_, err := t.command("start", endOfStart)
	return err
}

// ForwardBursts sends that many bursts of 32 frames and then begins to forward, in a mode that sends frames back.
func (t *Testpmd) ForwardBursts(bursts int) error {
	_, err := t.command(fmt.Sprintf("start tx_first %d", bursts), endOfStart)
	return err
}

// Stop ends Forward.
func (t *Testpmd) Stop() error {
	_, err := t.command("stop", endOfStop)
	return err
}

// PortStats returns the counters of the one port.
func (t *Testpmd) PortStats() (PortStats, error) {
	text, err := t.command("show port stats all", endOfStats)
	if err != nil {
		return PortStats{}, err
	}
	return ParsePortStats(text)
}

// PortStats are the counters of a port, and the rates since the call before.
type PortStats struct {
	ReceivedPackets uint64
	ReceivedBytes   uint64
	Missed          uint64
	ReceiveErrors   uint64
	SentPackets     uint64
	SentBytes       uint64
	SendErrors      uint64
	ReceiveRate     uint64 // packets per second
	SendRate        uint64 // packets per second
}

// ParsePortStats reads what "show port stats all" prints for the first port.
func ParsePortStats(text string) (PortStats, error) {
	var s PortStats
	fields := map[string]*uint64{
		"RX-packets": &s.ReceivedPackets, "RX-bytes": &s.ReceivedBytes, "RX-missed": &s.Missed, "RX-errors": &s.ReceiveErrors,
		"TX-packets": &s.SentPackets, "TX-bytes": &s.SentBytes, "TX-errors": &s.SendErrors,
		"Rx-pps": &s.ReceiveRate, "Tx-pps": &s.SendRate,
	}
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i++ {
		name, ok := strings.CutSuffix(words[i], ":")
		field := fields[name]
		if !ok || field == nil {
			continue
		}
		n, err := strconv.ParseUint(words[i+1], 10, 64)
		if err != nil {
			return PortStats{}, fmt.Errorf("testpmd: %s: %w", name, err)
		}
		*field = n
		delete(fields, name)
	}
	if len(fields) > 0 {
		return PortStats{}, fmt.Errorf("testpmd: %d counters are missing in %q", len(fields), text)
	}
	return s, nil
}
