// Package proxyclient is the client's side of what is said with a proxy before a connection's stream begins: SOCKS 5 with CONNECT (RFC
// 1928, RFC 1929), the method CONNECT of HTTP (RFC 9110 section 9.3.6), and the header of the PROXY protocol, to which there is no answer.
//
// A [Handshake] does no I/O: it says what is to be sent, and is shown what has come. It uses the bytes of the proxy's own answers and not
// one more, so that what follows stays where it is, which is the stream. What a proxy may send has a bound; how long it may take is for
// the caller to bound. How it refuses becomes the error number that a connect of one's own would have had ([Failure]).
//
// What does not belong here: sockets, times, and which proxy a connection takes.
package proxyclient
