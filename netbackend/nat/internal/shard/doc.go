// Package shard has what one queue pair of a guest owns, whatever the protocol.
//
// A [Shard] is that part of the NAT engine: its flows with their lists and timers, its share of limits, and the way to the guest.
// A [Turn] is a shard with what is valid during one turn. It is an argument of whatever works in a turn, and nobody keeps it: the
// parts of the engine keep the shard, from which no turn can be had.
//
// # Flows
//
// A [Flow] is one record of the guest's [Table]: what flows of all protocols have. Whoever serves a protocol keeps what it knows of
// its own flows in a slab of its own (package flowtable). A flow has a turn when it was given one ([Shard.Schedule]), waits for
// receive buffers of the guest ([Turn.Block]), and stands in at most one [Class], in which others may take its place
// ([Turn.Admit]). A connection that is over, but for what the kernel has to send, is no flow any more: it lingers ([Turn.Linger]).
//
// # Queue pairs
//
// The shards of a guest share [Pairs]. What one leaves for another goes by its mailbox. How flows move between shards is said in the
// file handover.go, and when their records are used anew in retire.go.
//
// # Protocols
//
// The shard calls what serves a protocol by its [Hooks] only. It looks at a flow's protocol for the kind of its socket, and for
// nothing else.
//
// What does not belong here: segments, datagrams and ICMP messages, the policy, forwards and gates, and which part gets a frame or
// an event.
package shard
