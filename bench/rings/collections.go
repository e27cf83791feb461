package rings

import (
	"strconv"
	"strings"
)

// traceCollections makes a Go program print a line for each garbage collection, and costs nothing otherwise.
const traceCollections = "GODEBUG=gctrace=1"

// collectionsAfter counts the garbage collections in what a program with traceCollections has printed, from number on. The
// runtime forces one every two minutes whatever a program does (runtime/debug, SetGCPercent); those are left out. It also
// returns the number of the last one.
func collectionsAfter(output string, number int) (count, last int) {
	last = number
	for line := range strings.Lines(output) {
		n, ok := collectionOf(line)
		if !ok || n <= number {
			continue
		}
		last = n
		if !strings.Contains(line, "(forced)") {
			count++
		}
	}
	return count, last
}

// collectionOf returns the number of the collection that a line tells of: "gc 7 @12.3s 0%: ...".
func collectionOf(line string) (number int, ok bool) {
	rest, ok := strings.CutPrefix(line, "gc ")
	if !ok {
		return 0, false
	}
	text, _, ok := strings.Cut(rest, " @")
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(text)
	return number, err == nil
}
