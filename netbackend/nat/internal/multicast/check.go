package multicast

import (
	"fmt"
	"slices"

	"github.com/hashicorp/go-multierror"
)

// Check returns all that is wrong with the names of interfaces that a user has given, the interfaces themselves included.
func Check(names []string) error {
	if len(names) == 0 {
		return nil
	}
	var q inquiry
	if err := q.open(); err != nil {
		return err
	}
	defer q.close()
	var errs *multierror.Error
	if len(names) > MaxInterfaces {
		errs = multierror.Append(errs, fmt.Errorf("--multicast: %d interfaces are too many; want %d at most", len(names), MaxInterfaces))
	}
	for i, name := range names[:min(len(names), MaxInterfaces)] {
		if slices.Contains(names[:i], name) {
			errs = multierror.Append(errs, fmt.Errorf("--multicast %s: the interface is given twice; leave one out", name))
			continue
		}
		l := newLink(name)
		var err error
		if l.state, err = q.find(name); err == nil {
			err = l.check()
		}
		if err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	return errs.ErrorOrNil()
}
