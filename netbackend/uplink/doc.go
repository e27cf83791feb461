// Package uplink connects a guest to a switch and, by the same network card, to a NAT engine of its own, which is its router: [Port] is made
// of an l2switch.Port and a nat.Port.
//
// # Who gets a frame
//
// What the guest sends to its router's MAC address goes to its engine; so do requests of ARP and neighbour discovery for the engine's
// addresses, requests of DHCP, and solicitations of routers, whatever address they are sent to. They do not go over the switch. All else goes
// over the switch, and nothing else does. What the engine sends goes to the guest's ring.
//
// The chains of a turn are sorted into two lists, whose frames both parts read from the guest's memory by themselves, once each. The switch
// can leave frames in the ring, so it goes first, and the engine gets those that are before the first one that is left: chains are given
// back in their order, and none is handled twice. The engine leaves none, but while flows of a guest that is gone end: then all waits.
//
// Both parts fill the guest's receive ring. Which of them goes first changes from turn to turn, so that neither can keep the other from it.
//
// # What others cannot do
//
// The engine's addresses are the router's alone: see l2switch.Router. The switch asks for it where a frame is copied for this guest, and the
// frame cannot change behind that.
//
// # Concurrency
//
// A Port belongs to its worker's thread, and holds no lock. There is no interface call for a frame.
//
// What does not belong here: how either part handles frames, and which addresses guests have.
package uplink
