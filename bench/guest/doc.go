// Guest is the first and only program of a benchmark's guest. It configures the network as the host says, and is one end of
// one run of traffic at a time (package traffic), or runs adbd and the service behind it for bench/adb. It talks to the host
// over the console, see integration/lab/guest/agent.
//
// Its network is static, so that a back end without DHCP can be measured too.
//
// On the host it is an ordinary program that does the same, but for the network: the other end of what the host's own
// loopback is measured with.
package main
