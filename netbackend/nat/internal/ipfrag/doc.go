// Package ipfrag puts IP packets together that came in fragments (RFC 791 section 3.2; RFC 8200 section 4.5). It keeps few packets,
// for a bounded time, and believes no fragment that contradicts another (RFC 5722).
//
// It knows neither how fragments come nor what becomes of a packet.
package ipfrag
