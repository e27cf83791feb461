// Package dnszone answers queries for names that a user has given addresses, in zones in which nobody else is asked.
//
// What does not belong here: who is asked for other names (package dns), and when (package namerelay).
package dnszone
