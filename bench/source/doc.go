// Package source builds what is measured from a state of the source tree: a git ref of this repository, or the directory of
// a checkout, with all changes in it.
//
// The product comes from there. What measures it (bench/turns) comes from the tree in which the benchmark runs, so that two
// states are measured in the same way, even those from before bench/turns was written. It must compile with both.
package source
