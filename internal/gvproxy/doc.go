// Package gvproxy takes the place of gvproxy (gvisor-tap-vsock): it reads gvproxy's command line, says what it is for "vring nat", and answers
// requests of gvproxy's API as gvproxy does, by asking a vring at its control socket.
//
// The forwards and DNS zones that the API tells are those that came by it. What it opens itself are unix sockets, and ports that lead to
// addresses that no guest has.
//
// What does not belong here: how processes are started, and what a forward or a name is (packages spec and dnszone).
package gvproxy
