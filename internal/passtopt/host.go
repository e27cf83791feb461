package passtopt

import "net/netip"

// Link is an interface of the host, in one version of IP.
type Link struct {
	Name    string
	Address netip.Prefix // its first address, with the bits of its network
	Gateway netip.Addr   // of the default route by it; the zero Addr if there is none
	// LinkLocal is its own in IPv6, the zero Addr if it has none.
	LinkLocal netip.Addr
}

// Host is what passt takes from the host.
type Host struct {
	// Link returns an interface by its name, or that of the default route if the name is "". ok is false if there is none, or if it has no address.
	Link func(is4 bool, name string) (l Link, ok bool)
	// HasInterface reports whether there is an interface of a name.
	HasInterface func(name string) bool
	// User returns the numbers of a user and of its group, and Group that of a group, by their names.
	User       func(name string) (uid, gid int, ok bool)
	Group      func(name string) (gid int, ok bool)
	Resolvers  []netip.Addr // of resolv.conf, in their order
	Search     []string     // of resolv.conf
	FirstLocal uint16       // the kernel gives ports from this one
	LastLocal  uint16       // to this one to sockets that ask for any
	Addresses  []netip.Addr // all of the host's, but those of loopback and of links
}
