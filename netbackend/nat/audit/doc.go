// Package audit passes on what guests do at the border of their network: names that they ask for, connections that begin, are denied or
// end. A [Recorder] is a bounded queue between the threads of a guest's queue pairs, which record, and the one goroutine that takes.
// Who records never waits: not for the reader, and not for another thread. What finds the queue full is counted and lost.
//
// A nil Recorder is one for nobody: recording costs a comparison.
//
// What does not belong here: who records and when (nat/internal/ledger), what becomes of entries (package daemon), how they are written
// (package auditlog).
package audit
