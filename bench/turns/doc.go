// Turns is a program that lets the data path have its turns, for bench/diff, which measures how long they take, and for
// bench/instructions, which steps through them. It is built from the source tree that is measured.
//
// A row is a kind of turn: a Port gets the same frames again and again, on one thread, without worker and front end. The
// rows of "vring stub" are whole turns of a queue pair: chains are fetched, handled and given back. Those of "vring nat"
// are turns of the engine alone, with sockets of the host's loopback at its other end. Those of a stream front end are
// what it costs beside the Port. What the guest and the host do
// between turns is not measured.
//
// The program does what it reads on standard input, a line at a time, and answers with a line of JSON:
//
//	rows               the rows, each with its name and how many frames one turn of it carries
//	time ROW DURATION  turns for about so long; how many there were, and how long they took
//	step ROW COUNT     so many turns, with SIGUSR1 to the own thread before and behind each
package main
