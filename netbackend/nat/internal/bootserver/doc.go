// Package bootserver lets the guest's router be a server of boot files by TFTP: it finds what is meant for that server, and runs a session of
// package tftp for each port of the guest that asks.
//
// To the engine a session is an association like others: its socket is connected to another one of the loopback, which the session has, and
// which takes datagrams from that socket only. So nothing on a datagram's way knows of files, and a file that is slow to read holds up no
// guest.
//
// What does not belong here: the protocol (package tftp), and where files come from: the one who serves guests opens them.
package bootserver
