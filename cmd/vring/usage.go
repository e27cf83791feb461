package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/forward"
)

// usageError is a wrong use of the command line. It holds all that is wrong, each fault one line.
type usageError struct{ faults []error }

// wrongUse makes one error of the faults that are not nil, and of those that they are made of; nil if there are none.
func wrongUse(faults ...error) error {
	var all []error
	for _, err := range faults {
		for _, fault := range configfile.Flatten(err) {
			all = append(all, spell(fault))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return usageError{all}
}

func (e usageError) Error() string {
	if len(e.faults) == 1 {
		return e.faults[0].Error() + excerpt(e.faults[0], "  ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d things are wrong:", len(e.faults))
	for _, err := range e.faults {
		fmt.Fprintf(&b, "\n  %v%s", err, excerpt(err, "    "))
	}
	return b.String()
}

// excerpt is the line of a configuration file that is wrong, on lines of its own with an indent; "" for other errors.
func excerpt(err error, indent string) string {
	fault := new(configfile.Fault)
	if !errors.As(err, &fault) || fault.Excerpt() == "" {
		return ""
	}
	return "\n" + indent + strings.ReplaceAll(fault.Excerpt(), "\n", "\n"+indent)
}

func (e usageError) Unwrap() []error { return e.faults }

// spell returns an error in the words of the command line.
func spell(err error) error {
	switch e := err.(type) {
	case interface{ Unwrap() []error }: // errors.Join
		var parts []error
		for _, part := range e.Unwrap() {
			parts = append(parts, spell(part))
		}
		return errors.Join(parts...)
	case *daemon.Fault:
		return errors.New(e.Spell(func(o daemon.Option) string { return "--" + string(o) }))
	case *daemon.LostError:
		return fmt.Errorf("%w; with --reopen vring waits for the device to come back", e)
	}
	return err
}

// asUse makes a wrong use of an error that is about what the command line names.
func asUse(err error) error {
	if errors.As(err, new(*daemon.Fault)) || errors.As(err, new(*forward.BindError)) {
		return wrongUse(err)
	}
	return spell(err)
}
