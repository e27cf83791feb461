// Package dnsmsg has what several parts need of messages of DNS: answers that are made here instead of by a resolver, and names of addresses.
//
// What does not belong here: what is answered, and to whom.
package dnsmsg
