package configfile

import (
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/daemon"
)

// ParseGuest reads a guest that has a network of its own, as it is written below guests. The text may be JSON, which messages call name. The
// error holds all that is wrong, as Faults.
func ParseGuest(name string, text []byte) (g daemon.Guest, err error) {
	r, body, err := open(name, text, nil, fileBounds())
	if err != nil {
		return g, err
	}
	found := r.named("a guest", body, guestNames())
	if r.errs == nil && !r.hasOwn(found) {
		r.errs = multierror.Append(r.errs, &Fault{File: name, Message: "the guest has no network of its own; write nat:, switch:, stub: or tap: below it"})
	}
	if r.errs == nil {
		r.readOwn(body, found)
	}
	if r.errs != nil {
		slices.SortStableFunc(r.errs.Errors, inOrder)
		return g, r.errs
	}
	return r.Config.Guests[0], nil
}
