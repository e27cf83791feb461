package proto

import "time"

// Hello is the first event of a guest that has booted.
type Hello struct {
	Kernel string `json:"kernel"`
	UML    bool   `json:"uml"` // User-mode Linux, else a virtual machine
}

// Lease is what the DHCP server gave the guest.
type Lease struct {
	Address   string   `json:"address"` // with prefix length: 10.0.2.15/24
	Server    string   `json:"server"`
	Router    string   `json:"router"`
	DNS       []string `json:"dns"`
	MTU       int      `json:"mtu"`        // option 26, 0 if absent
	LeaseTime int      `json:"lease_time"` // seconds
	Domain    string   `json:"domain"`
	Search    []string `json:"search"`
	HostName  string   `json:"host_name"`
}

// Network6 is what an interface has in IPv6 by what a router has told.
type Network6 struct {
	Address string `json:"address"` // with prefix length
	Router  string `json:"router"`
}

// Lease6 is what the guest got by DHCPv6.
type Lease6 struct {
	Address string   `json:"address"` // with prefix length
	DNS     []string `json:"dns"`
}

// Link is the state of a network interface, with its counters.
type Link struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	MTU     int    `json:"mtu"`
	Up      bool   `json:"up"`      // set up by the administrator
	Carrier bool   `json:"carrier"` // what the device reports

	ReceivedPackets uint64 `json:"received_packets"`
	ReceivedBytes   uint64 `json:"received_bytes"`
	ReceiveDropped  uint64 `json:"receive_dropped"`
	ReceiveErrors   uint64 `json:"receive_errors"`
	SentPackets     uint64 `json:"sent_packets"`
	SentBytes       uint64 `json:"sent_bytes"`
}

// Ring is where the driver has put a virtqueue: guest-physical addresses of the areas.
type Ring struct {
	Size  int   `json:"size"`
	Avail int64 `json:"avail"`
	Used  int64 `json:"used"`
}

// Transfer is what came in over one TCP connection until the peer's end of stream.
type Transfer struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	Peer   string `json:"peer"`
	Local  string `json:"local"`
	// Options are those in use on a connection of the guest's, as its kernel tells.
	Options Options `json:"options"`
}

// Options are TCP options, as in tcp_info of Linux.
type Options uint8

const (
	Timestamps Options = 1 << iota
	SACK
	WindowScale
)

// Echoes counts datagrams, or pings, and their answers. Lost lists the payload sizes that no answer came for after all
// tries.
type Echoes struct {
	Sent     int   `json:"sent"`
	Answered int   `json:"answered"`
	Lost     []int `json:"lost,omitempty"`
}

// Flood is how many frames a flood was.
type Flood struct {
	Frames uint64 `json:"frames"`
}

// RoundTrips are connections that were made one after the other: how long each took until its first byte had come back,
// and the errors of those that failed.
type RoundTrips struct {
	Times  []time.Duration `json:"times"`
	Failed []string        `json:"failed,omitempty"`
}

// Names is the answer of a resolver.
type Names struct {
	Addresses []string `json:"addresses"`
}

// Page is the answer of an HTTP server.
type Page struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// Listening is the event of a command that serves, once its port is open.
type Listening struct {
	Address string `json:"address"`
}

// Spawned is the first event of a command that runs in a process of its own.
type Spawned struct {
	Process int `json:"process"`
}

// Outcome is how a program ended, with all that it has printed.
type Outcome struct {
	Status int    `json:"status"`
	Output string `json:"output"`
}

// Text is any other output.
type Text struct {
	Text string `json:"text"`
}
