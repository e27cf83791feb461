// Fuzz runs every fuzz target of this module, one after the other, and tells how many executions each has had. Targets
// are found in the sources, so that none can be forgotten.
//
//	go run ./integration/fuzz 2000x        // so many executions of each
//	go run ./integration/fuzz 10m          // at least so long each
//	go run ./integration/fuzz 10m Session  // only targets whose names match
//
// A time is spent in rounds of so many executions as fit: `go test -fuzztime 10m` now and then reports its own deadline
// as a failure. Minimizing is cut short, since sockets make the coverage of some targets vary from run to run.
//
// What is found is printed at once, with the file under testdata/fuzz that go test has written; the exit status is 1 then.
package main
