// Package tapguest makes a network namespace a guest: its network card is a TAP device whose frames this process passes to a vring that
// serves with --front-end stream. The guest's kernel is the machine's own, and every program of the machine runs in the guest at full
// speed. Frames that no kernel would send are sent beside it, and the answers to them are kept from it.
//
// A Guest may be used by several goroutines. Making one needs root.
//
// What does not belong here: addresses, what the guest runs, and how vring is started.
package tapguest
