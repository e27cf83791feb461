package flowlist

import (
	"cmp"
	"slices"
	"time"

	"github.com/vringnet/vring/internal/control/api"
)

// Flow is a flow of a guest.
type Flow struct {
	Guest string `json:"guest_name"`
	api.Flow
	FromRate float64 `json:"-"` // bytes a second from the guest, once measured
	ToRate   float64 `json:"-"` // bytes a second to the guest, once measured
}

// List is flows at one moment.
type List struct {
	Flows    []Flow
	At       time.Time
	Measured bool // the rates are known
}

// Add adds flows of a guest.
func (l *List) Add(guest string, flows []api.Flow) {
	for i := range flows {
		l.Flows = append(l.Flows, Flow{Guest: guest, Flow: flows[i]})
	}
}

// name names a flow: no two have the same name at a time.
type name struct{ guest, proto, end, remote string }

func (f *Flow) name() name { return name{f.Guest, f.Proto, f.Flow.Guest, f.Remote} }

// Same reports whether both are the same flow, as far as its ends tell.
func (f *Flow) Same(other Flow) bool { return f.name() == other.name() }

// Measure finds out how fast flows are, by how they were before. A List without a time is not before anything.
func (l *List) Measure(before *List) {
	if before.At.IsZero() {
		return
	}
	l.Measured = true
	was := map[name]*Flow{}
	for i := range before.Flows {
		was[before.Flows[i].name()] = &before.Flows[i]
	}
	seconds := l.At.Sub(before.At).Seconds()
	for i := range l.Flows {
		f := &l.Flows[i]
		from, to := f.FromGuest, f.ToGuest
		if old := was[f.name()]; old != nil && old.FromGuest <= from && old.ToGuest <= to { // else it is another one by the same name
			from, to = from-old.FromGuest, to-old.ToGuest
		}
		f.FromRate, f.ToRate = float64(from)/seconds, float64(to)/seconds
	}
}

// Orders of Sort.
const (
	ByAge   = "age"   // the oldest first
	ByBytes = "bytes" // what most bytes have passed on first
	ByRate  = "rate"  // what most bytes pass on now first
)

// Orders are all of them.
func Orders() []string { return []string{ByAge, ByBytes, ByRate} }

// Sort sorts by one of Orders. Flows that are equal keep their order.
func (l *List) Sort(order string) {
	slices.SortStableFunc(l.Flows, func(a, b Flow) int {
		switch order {
		case ByBytes:
			return cmp.Compare(b.FromGuest+b.ToGuest, a.FromGuest+a.ToGuest)
		case ByRate:
			return cmp.Compare(b.FromRate+b.ToRate, a.FromRate+a.ToRate)
		}
		return cmp.Compare(b.AgeMillis, a.AgeMillis)
	})
}
