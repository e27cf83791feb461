package daemon

import (
	"cmp"
	"slices"
	"time"

	"github.com/vringnet/vring/netbackend/drops"
)

// Drop is something that a guest's network has dropped.
type Drop struct {
	drops.Drop // whose Time is of the device's clock
	At         time.Time
	Pair       int
}

// Drops returns what was dropped last of a guest's frames, and of those to it, the oldest first. It reads what threads keep, and wakes none of them. Any goroutine may
// call it between Open and the end of Serve. The error is a NoGuestError.
func (d *Daemon) Drops(guest string) (all []Drop, err error) {
	s, err := d.find(guest)
	if err != nil {
		return nil, err
	}
	now, at := s.device.Now(), time.Now()
	for pair := range s.ports {
		kept := s.device.Drops(pair)
		if p, keeps := s.ports[pair].(interface{ Drops() []drops.Drop }); keeps {
			kept = append(kept, p.Drops()...)
		}
		for i := range kept {
			all = append(all, Drop{kept[i], at.Add(time.Duration(kept[i].Time - now)), pair})
		}
	}
	slices.SortStableFunc(all, func(a, b Drop) int { return cmp.Compare(a.Time, b.Time) })
	return all, nil
}
