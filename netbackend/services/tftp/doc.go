// Package tftp is a server of files by TFTP (RFC 1350), which is how machines load what they boot from the network. Files can only be read. Of the
// options it has block size (RFC 2348), time-out and size of the file (RFC 2349), and window (RFC 7440).
//
// A [Session] is what one client asks for: it is given the client's datagrams and the time, and says what to send and when it wants to be
// called again. [Serve] runs one on a socket. What opens files is the caller's; [CleanName] says which names are passed on to it.
//
// The answers come from the port that was asked, not from one of their own: clients take that, and who translates addresses in between finds
// the way back.
package tftp
