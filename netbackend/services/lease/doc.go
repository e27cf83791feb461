// Package lease decides which host behind a guest's network card gets which address, for DHCP of either version.
//
// A guest is promised one address, and most guests are one host. But macvlan interfaces, bridged containers and virtual
// machines within the guest are hosts with MAC addresses of their own. The first host that asks gets the promised address,
// the others get addresses of a small pool, and those that the configuration names get what it says.
//
// A host keeps its address: across reboots, changes of its client identifier, and silence. The promised address moves to
// another MAC address only if its host does not answer any more, so that a guest whose MAC address changes keeps it.
//
// A [Book] holds a bounded number of entries, whatever a guest sends, and belongs to one guest. It does not belong here to
// read or write messages (packages dhcp4 and dhcp6), or to ask the link who is there (the engine does).
package lease
