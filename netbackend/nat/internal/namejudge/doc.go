// Package namejudge says what a guest with rules by name may ask the name server, and what it is told.
//
// A question is judged by the rules (package policy). Of an answer to one about addresses, those addresses are recorded for the guest
// (package witness) that the answer gives for the name that was asked, along its CNAME records, whatever else it has. Addresses that lead
// into networks which the name does not open are taken out, so that nobody's name stands for the host's own services, for a cloud's
// metadata, or for a private network.
//
// Messages are read here, and written anew if something is taken out. It does not belong here where they come from or go to.
package namejudge
