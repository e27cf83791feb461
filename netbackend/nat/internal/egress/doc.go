// Package egress binds sockets that are to leave the host by an interface, or with a source address, of the user's choice.
//
// A socket that is bound to an interface leaves by no other one, whatever the routes say and whether the interface is up or not; if there
// is none of that name, there is no socket. So what the user has bound to a VPN does not leave beside it. Linux binds a socket that is not
// bound yet for everybody since 5.7. To disconnect a socket for datagrams unbinds it (connect(2) with AF_UNSPEC), so nobody may do that to
// one of these.
//
// What does not belong here: which way a flow takes (package policy), and proxies (package proxyclient).
package egress
