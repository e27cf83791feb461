package traffic

import (
	"math/bits"
	"time"
)

// Durations are counted in classes: those below fineBelow exactly, longer ones with subBits bits behind the leading one, so
// that a class is at most 1/32 wide.
const (
	subBits   = 5
	fineBelow = 1 << (subBits + 1) // in microseconds/16
	classes   = 64 << subBits
	unit      = time.Microsecond / 16
)

// latencies is a histogram of durations. Its zero value is empty.
type latencies struct {
	count   int64
	classes [classes]int64
}

func (l *latencies) add(d time.Duration) {
	l.count++
	l.classes[classOf(d)]++
}

// classOf returns the class of a duration; negative ones count as 0.
func classOf(d time.Duration) int {
	v := uint64(max(d, 0) / unit)
	if v < fineBelow {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// leastOf returns the shortest duration of a class.
func leastOf(class int) time.Duration {
	if class < fineBelow {
		return time.Duration(class) * unit
	}
	shift := class>>subBits - 1
	return time.Duration(class-shift<<subBits) << shift * unit
}

// percentile returns a duration that p percent of the recorded ones do not exceed, as the middle of its class; 0 if nothing
// was recorded.
func (l *latencies) percentile(p int64) time.Duration {
	rank := max((l.count*p+99)/100, 1)
	for class, n := range l.classes {
		if rank -= n; rank <= 0 && n > 0 {
			return (leastOf(class) + leastOf(class+1)) / 2
		}
	}
	return 0
}
