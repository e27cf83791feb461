// Guest is the first and only program of a benchmark's guest. It loads the virtio driver, configures the network as the
// host says, and sends or receives one TCP stream at a time (package stream). It talks to the host over the console in the
// lines of integration/guest/proto.
//
// Its network is static, so that a back end without DHCP can be measured too. What it sends and receives goes through
// blocking system calls: the runtime's poller would add more of them, and each is dear in User-mode Linux.
package main
