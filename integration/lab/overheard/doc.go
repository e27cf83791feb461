// Package overheard listens to an interface of a network namespace while a test runs: each packet that arrives is there to be judged at
// once, with its addresses, ports and payload, and what a TCP connection has carried is there as one text. Package tcpdump records, for
// what is looked at afterwards.
//
// A Line may be used by several goroutines. Listening needs CAP_NET_RAW.
package overheard
