// Package nameserver brings the guest's queries to the relay for names (package namerelay), by datagrams and connections, and its answers
// to the guest.
//
// What does not belong here: which resolver is asked, and what a query is.
package nameserver
