// Demo shows the main job of vring, for `make demo`: a Linux guest in QEMU gets its network, fetches a page from a service
// of the host, and serves a page to the host through a forward. With -shell it leaves the user at the guest's shell, for
// `make demo-shell`.
//
// It starts the programs as a user would and prints their command lines. It ends all of them, also on Ctrl-C.
package main
