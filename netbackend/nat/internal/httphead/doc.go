// Package httphead reads the requests that a client of HTTP/1.x sends by a connection (RFC 9112), as its bytes come: which host each is
// for, and where it ends.
//
// It is stricter than a server has to be. Nothing passes that a server could read as another request than is read here, for a guest could
// hide a request in it for a host that it may not reach. So these are refused, though RFC 9112 allows them or lets servers repair
// them:
//
//   - a Host field that is missing in HTTP/1.1, repeated, no name or address, or other than the authority of a target in absolute form;
//   - lines that end without CR, a CR elsewhere, folded lines, space in front of a colon, empty lines in front of a request;
//   - Content-Length with Transfer-Encoding, either of them twice, any transfer coding but chunked, and both written with underscores;
//   - extensions of chunks, and fields behind the last one;
//   - a body of GET or HEAD, which some servers do not read;
//   - Expect, since a server that refuses may take the body for the next request;
//   - fields that Connection takes away on the way, but for those of the connection itself;
//   - CONNECT, TRACE, HTTP/2 without TLS (the preface "PRI * HTTP/2.0" and "Upgrade: h2c");
//   - Upgrade to anything but websocket, or in another request than the first of a connection.
//
// What fields of other names mean to a program behind the server, such as X-Forwarded-Host, nobody can tell from outside.
//
// What does not belong here: where the bytes come from and are kept, whether a host is allowed, and the server's answers.
package httphead
