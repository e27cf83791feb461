// Package slirpapi answers the API of slirp4netns (its option -a): one request in JSON by each connection, which adds, lists or removes
// forwards. It asks a vring at its control socket.
//
// What does not belong here: what a forward is (package spec), and what opens it.
package slirpapi
