// Package control lets a daemon be watched and changed while it serves guests, by HTTP and JSON over its control socket: [Server]
// is the daemon's side, [Client] that of commands. Requests and answers are those of package api, and openapi.yaml describes them.
//
// The server gets connections that somebody else has accepted, of users who may do all that it offers (package broker). It
// reads the counters that threads have published and wakes none of them. A change of the configuration is made as a whole or not at
// all, and never to what no file could say (package configfile).
//
// A client can hold up nobody but itself. How many connections there are is bounded where they are accepted. When there are
// many, the server closes the one that has waited longest, be it for a request, for the rest of one, or for a client that does not read
// its answer. Requests and answers have bounds, and
// so have changes in a second. What a request says is read strictly, and one of a web page is refused.
//
// Some answers go on: events, and captures of frames (download). A client that does not read loses some of them, and is told how many.
//
// [MetricsServer] answers strangers at a port of TCP, with the page of package metrics and nothing else. It has the same bounds.
//
// What does not belong here: who may connect, what a person reads.
package control
