// Package wire has the numbers of SOCKS 5 (RFC 1928, RFC 1929), which servers and clients share. It reads and writes nothing.
package wire
