// Package instructions counts the instructions of the data path for each frame, and compares them with the baseline in
// baseline.json. A count does not depend on what else the machine does: the same source tree, Go version and architecture
// have the same counts.
//
//	cd bench
//	go run . instructions                    this source tree; exit status 1 if a row has grown by more than 4 %
//	go run . instructions --source REF       another state: a git ref or the directory of a checkout
//	go run . instructions --update           make these counts the baseline of this Go version and architecture
//
// Each row of bench/turns is stepped through up to ten times (package singlestep), and the least count is kept; three equal
// ones are enough. The Go runtime uses no instructions that only some processors have. The baseline is changed by --update
// only, in a commit that says why.
package instructions
