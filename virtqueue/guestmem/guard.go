package guestmem

import (
	"fmt"
	"runtime/debug"
)

// FaultError tells that guest memory could not be accessed although it is mapped: its file was cut short, or its page
// could not be provided.
type FaultError struct {
	Addr uintptr // host address
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("guest memory: fault at host address %#x", e.Addr)
}

// Guard calls fn and returns a [*FaultError] if a memory access of fn faulted at an address that is not nil. Any other
// panic of fn goes on. fn runs on the calling goroutine, and only that goroutine is guarded. Guard may be nested.
//
// The fault ends fn in the middle: what fn worked on is to be given up, not repaired. Only Go code is covered: a call
// into the runtime that touches guest memory (a map key, a string compare) would end the process, so guest memory is
// accessed by plain loads and stores, package sync/atomic, and CopyFrom and CopyTo.
func Guard(fn func()) (err error) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			err = fault(p)
		}
	}()
	fn()
	return nil
}

// fault makes an error of the panic value p if it stems from a memory fault, and panics with it again otherwise. A nil
// dereference has no address (see debug.SetPanicOnFault): it is a bug and stays a panic.
func fault(p any) error {
	f, ok := p.(interface {
		error
		Addr() uintptr
	})
	if !ok {
		panic(p)
	}
	return &FaultError{Addr: f.Addr()}
}
