// Package servername reads the name of a server that a client claims to want: that of TLS, or of HTTP's Host field.
//
// What does not belong here: names of DNS messages, and patterns of rules.
package servername
