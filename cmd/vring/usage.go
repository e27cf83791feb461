package main

import (
	"fmt"
	"strings"
)

// usageError is a wrong use of the command line. It holds all that is wrong, each fault one line.
type usageError struct{ faults []error }

// wrongUse makes one error of the faults that are not nil, and of those that they are made of; nil if there are none.
func wrongUse(faults ...error) error {
	var all []error
	for _, err := range faults {
		all = append(all, flatten(err)...)
	}
	if len(all) == 0 {
		return nil
	}
	return usageError{all}
}

// flatten takes an error apart that consists of several.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var parts []error
	switch e := err.(type) {
	case interface{ WrappedErrors() []error }: // go-multierror
		parts = e.WrappedErrors()
	case interface{ Unwrap() []error }:
		parts = e.Unwrap()
	default:
		return []error{err}
	}
	var all []error
	for _, part := range parts {
		all = append(all, flatten(part)...)
	}
	return all
}

func (e usageError) Error() string {
	if len(e.faults) == 1 {
		return e.faults[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d things are wrong:", len(e.faults))
	for _, err := range e.faults {
		fmt.Fprintf(&b, "\n  %v", err)
	}
	return b.String()
}

func (e usageError) Unwrap() []error { return e.faults }
