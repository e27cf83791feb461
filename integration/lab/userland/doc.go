// Package userland knows the two generations of software that the tests run, and starts programs of either.
//
// Bookworm is what is installed on this machine, which is Debian 12. Forky is a whole Debian forky userland in the user's
// cache folder, made by integration/userland.sh. A program of Forky runs on this machine, with its processes, network, files
// and sockets under the same paths; only /usr and /etc are those of the userland, by mounts in a namespace that ends with
// the program. So nothing has to be copied in or shared by name, and no mount is ever seen, or left behind, on the machine.
//
// Running the userland's dynamic loader instead would not do: DPDK and QEMU load more from folders whose names were
// compiled in. A change of the root would hide everything else, and passt refuses to run after one.
//
// A Userland is a constant, for any goroutine.
package userland
