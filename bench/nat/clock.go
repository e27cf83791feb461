package nat

import "time"

// clock estimates how long the rest takes.
type clock struct {
	start       time.Time
	done, total int
}

func newClock(total int) *clock { return &clock{start: time.Now(), total: total} }

// tick notes that one more step has begun.
func (c *clock) tick() { c.done++ }

// left returns how long the steps that have not begun will take, at the speed of the others.
func (c *clock) left() time.Duration {
	each := time.Since(c.start) / time.Duration(max(c.done, 1))
	return (each * time.Duration(c.total-c.done)).Round(time.Second)
}
