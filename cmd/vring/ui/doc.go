// Package ui serves a web page that shows a vring that serves guests, and changes it.
//
// The page is a client of the control socket: its requests below /v1/ are passed on there, as far as the page needs them. A browser also
// shows pages of others, whose requests come from the same machine and the same user. So each request must have the token that only the
// user has been told, must name this server by an address of the loopback, and must come from the page itself.
//
// What does not belong here: how the control socket is found, and what its verbs do.
package ui
