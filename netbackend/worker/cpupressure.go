package worker

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CPUPressure knows how many threads there are for the processors of the machine. Any thread may ask.
type CPUPressure struct {
	loadavg    *os.File
	fd         int // of it
	processors int
}

// OpenCPUPressure opens what is to be read later, so that a sandbox may close the rest.
func OpenCPUPressure() (*CPUPressure, error) {
	f, err := os.Open("/proc/loadavg")
	if err != nil {
		return nil, err
	}
	return &CPUPressure{loadavg: f, fd: int(f.Fd()), processors: onlineProcessors()}, nil
}

// Close closes it, when no thread asks any more.
func (c *CPUPressure) Close() error { return c.loadavg.Close() }

// probe returns the question for one thread. The answer is whether more threads can run than there are processors, so that
// one of them waits for another. What cannot be found out counts as oversubscribed.
func (c *CPUPressure) probe() (oversubscribed func() bool) {
	text := make([]byte, 128)
	return func() bool {
		n, err := unix.Pread(c.fd, text, 0)
		if err != nil {
			return true
		}
		running, ok := parseRunning(text[:n])
		return !ok || running > c.processors
	}
}

// parseRunning finds the number of threads that run or could in the text of proc_loadavg(5): "0.20 0.18 0.12 1/80 11206".
// It does not allocate.
func parseRunning(text []byte) (n int, ok bool) {
	end := bytes.IndexByte(text, '/')
	if end < 0 {
		return 0, false
	}
	for _, digit := range text[bytes.LastIndexByte(text[:end], ' ')+1 : end] {
		if digit < '0' || digit > '9' || n > 1<<20 {
			return 0, false
		}
		n, ok = 10*n+int(digit-'0'), true
	}
	return n, ok
}

// onlineProcessors counts those of the machine, not only those that this process may use: threads of others count too.
func onlineProcessors() int {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU()
	}
	return max(countList(strings.TrimSpace(string(text))), 1)
}

// countList counts the numbers in a list such as "0-3,8": cpu lists of the kernel.
func countList(list string) (n int) {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA == nil && errB == nil && b >= a {
			n += b - a + 1
		}
	}
	return n
}
