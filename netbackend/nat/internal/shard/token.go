package shard

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
)

// Kinds of tokens: what an event is about stands in the highest byte, a generation below it, an index in the low half.
const (
	TokenFlow     = iota
	TokenListener // the port of a forward
	TokenMapping
	TokenMail      // something is in the mailbox
	TokenNews      // the host's addresses or routes have changed, or its networks have something for the guest
	TokenName      // a resolver that was asked
	TokenLingering // a connection that is over, see Turn.Linger

	GenerationMask = flowtable.GenerationMask
)

// Token returns what the worker is given along with a descriptor, and gives back with its events.
func Token(kind uint64, gen, index uint32) uint64 {
	return kind<<56 | uint64(gen)<<32 | uint64(index)
}
