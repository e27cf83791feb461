// Package pathmtu remembers how long packets may be on the way to addresses behind a guest (RFC 1191, RFC 8201).
//
// It believes what it is told; whether a message is to be believed is for the caller. All threads of a guest may read and change a Table.
package pathmtu
