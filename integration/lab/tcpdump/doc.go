// Package tcpdump records the frames that pass an interface, by the program of that name: a witness that shares no code
// with the program under test. It tells the lengths of frames and whether their checksums are right.
//
// A Recording is for one goroutine.
package tcpdump
