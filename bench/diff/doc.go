// Package diff tells whether one state of the source tree is slower than another:
//
//	cd bench
//	go run . diff HEAD~5 HEAD             two commits
//	go run . diff main ..                 a commit, and this checkout with what is not committed
//	go run . diff --rows "udp in" old new --limit 1% --time 10m
//
// Both are built, and take turns at the same work in the same minute, so that what slows down the machine slows down both. A
// round of a row starts both programs anew, which places their memory anew, and takes pairs of short samples, one of each;
// of two pairs the first begins with the old state, the second with the new one. The round's ratio is the median of its
// pairs. Rounds go on until the 95 % interval of the ratio (package measure, EstimateRatio) is narrower than --limit, or
// until there is no time left, which the table then says.
//
// A pair is thrown out if more than 2 % of the processors' time was stolen by the host meanwhile, or if the processors were
// busier in one of its samples than in the other by more than a fifth of their time: then somebody else was at work in one
// of them. Within a sample of turns the slower half is left out: all turns are alike, but in some the thread was interrupted.
//
// Rows are turns of bench/turns, which is built with the product of both states. With a whole guest, bench/nat and bench/rings
// compare builds (--vring old=PATH --vring new=PATH).
//
// A row differs if the interval excludes 1 and the ratio is off by 2 % at least; less may come from where the linker has placed
// code. The exit status is 0 if no row is slower, 1 if a row is slower by more than --worse, 2 if that is not certain for some
// row, 3 if something went wrong.
package diff
