package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vringnet/vring/integration/lab/process"
)

// holdings are what vring has.
type holdings struct {
	process.Footprint
	Private    int // KiB of memory that are not shared with a guest (RssAnon)
	Heap       int // bytes
	Goroutines int
	TCPFlows   int
	OtherFlows int // UDP associations and pings end by silence
}

func (h holdings) String() string {
	return fmt.Sprintf("%d fds, %d threads, %d shared mappings, %d KiB private, %d KiB of heap, %d goroutines, %d TCP flows, %d others",
		h.FDs, h.Threads, h.SharedMappings, h.Private, h.Heap>>10, h.Goroutines, h.TCPFlows, h.OtherFlows)
}

// What may be more in the end, for reasons that are no leak: the Go runtime keeps threads and memory that it needed once,
// and the table of flows does not shrink.
const (
	threadSlack    = 8
	privateSlack   = 64 << 10 // KiB
	heapSlack      = 16 << 20
	goroutineSlack = 2
)

// excess tells what h holds that before did not.
func (h holdings) excess(before holdings) (faults []string) {
	for _, c := range []struct {
		what               string
		before, now, slack int
	}{
		{"file descriptors", before.FDs, h.FDs, 0},
		{"shared mappings", before.SharedMappings, h.SharedMappings, 0},
		{"threads", before.Threads, h.Threads, threadSlack},
		{"KiB of private memory", before.Private, h.Private, privateSlack},
		{"bytes of heap", before.Heap, h.Heap, heapSlack},
		{"goroutines", before.Goroutines, h.Goroutines, goroutineSlack},
		{"TCP flows", 0, h.TCPFlows, 0},
	} {
		if c.now > c.before+c.slack {
			faults = append(faults, fmt.Sprintf("vring has %d %s, and had %d", c.now, c.what, c.before))
		}
	}
	return faults
}

// holds counts what vring has now. It asks by SIGUSR1 for what cannot be seen from outside.
func (s *soak) holds() (h holdings, err error) {
	server := process.Server(s.vring.PID())
	if h.Footprint, err = process.ReadFootprint(server); err != nil {
		return h, err
	}
	if h.Private, err = privateMemory(server); err != nil {
		return h, err
	}
	text, err := s.status()
	if err != nil {
		return h, err
	}
	last := processLine.FindStringSubmatch(text)
	h.Heap, _ = strconv.Atoi(last[1])
	h.Goroutines, _ = strconv.Atoi(last[2])
	for line := range strings.Lines(text) {
		switch fields := strings.Fields(line); {
		case len(fields) < 2 || fields[1] != "in" && fields[1] != "out":
		case fields[0] == "tcp":
			h.TCPFlows++
		default:
			h.OtherFlows++
		}
	}
	return h, nil
}

// processLine ends the status of vring.
var processLine = regexp.MustCompile(`process: (\d+) bytes of heap, (\d+) goroutines`)

// status asks vring for its status. Only one goroutine may.
func (s *soak) status() (string, error) {
	const patience = 20 * time.Second
	before := s.vring.Output()
	if err := s.vring.Signal(syscall.SIGUSR1); err != nil {
		return "", err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text := newer(before, s.vring.Output())
		if processLine.MatchString(text) {
			return text, nil
		}
	}
	return "", fmt.Errorf("vring does not tell its status")
}

// newer returns what was printed after before, of which the beginning may be lost by now.
func newer(before, now string) string {
	const enough = 200
	end := before[max(0, len(before)-enough):]
	if i := strings.LastIndex(now, end); i >= 0 {
		return now[i+len(end):]
	}
	return now
}

// privateMemory returns the resident memory of a process that is its own, in KiB.
func privateMemory(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssAnon:" {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, fmt.Errorf("process %d tells no RssAnon", pid)
}
