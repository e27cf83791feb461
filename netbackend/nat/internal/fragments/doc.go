// Package fragments gives the guest what fits no frame of its own: datagrams and echo replies in fragments (RFC 791, RFC 8200 section
// 4.5), and several datagrams that came as one.
//
// What does not belong here: fragments of the guest's, which package ipfrag puts together.
package fragments
