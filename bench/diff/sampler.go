package diff

import (
	"context"
	"time"
)

// A row is a kind of work that both states do.
type row struct {
	name string
	// open starts the program of a state. It is not measured.
	open func(ctx context.Context, b *build) (sampler, error)
}

// A sampler is the program of one state.
type sampler interface {
	// sample works for about so long, and returns the time for one unit of work. The unit is the same for both states.
	sample(ctx context.Context, length time.Duration) (cost float64, err error)
	close() error
}
