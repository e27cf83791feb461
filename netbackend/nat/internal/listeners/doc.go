// Package listeners has the sockets by which others come to the guest, those of forwards and of mappings, and the order in which they
// have their turns.
//
// What does not belong here: what is done with what comes by them, and who opens and closes them.
package listeners
