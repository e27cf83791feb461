package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// CPUTicks is what all processors together have spent since they were started, in ticks of a hundredth of a second, see
// proc_stat(5).
type CPUTicks struct {
	Total int64 // of all kinds
	Busy  int64 // neither idle nor stolen
	Steal int64 // when the host gave the processor to somebody else
}

// Sub returns the ticks since an earlier reading.
func (t CPUTicks) Sub(earlier CPUTicks) CPUTicks {
	return CPUTicks{t.Total - earlier.Total, t.Busy - earlier.Busy, t.Steal - earlier.Steal}
}

// StealShare is the share of the time that was stolen.
func (t CPUTicks) StealShare() float64 { return share(t.Steal, t.Total) }

// BusyShare is the share of the time that was spent, by whomever.
func (t CPUTicks) BusyShare() float64 { return share(t.Busy, t.Total) }

func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// ReadCPUTicks reads the ticks now.
func ReadCPUTicks() (CPUTicks, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPUTicks{}, err
	}
	return parseCPUTicks(string(stat))
}

// parseCPUTicks reads the first line: user, nice, system, idle, iowait, irq, softirq, steal, and two that are in user and
// nice already.
func parseCPUTicks(stat string) (t CPUTicks, err error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	const idle, iowait, steal = 3, 4, 7
	if len(fields) < 2+steal || fields[0] != "cpu" {
		return t, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, field := range fields[1 : 2+steal] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return t, fmt.Errorf("/proc/stat begins with %q: %w", line, err)
		}
		t.Total += n
		switch i {
		case idle, iowait:
		case steal:
			t.Steal = n
		default:
			t.Busy += n
		}
	}
	return t, nil
}
