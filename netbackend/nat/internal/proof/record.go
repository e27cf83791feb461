package proof

import (
	"github.com/vringnet/vring/netbackend/nat/internal/httphead"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/tlshello"
)

// stage is where a connection stands.
type stage uint8

const (
	begins    stage = iota // its first byte is awaited, which tells the way
	helloDue               // its ClientHello is
	following              // the hello may go; until the server has answered, another one may follow
	secondDue              // another one follows
	headDue                // the head of a request is awaited
	inBody                 // the body of a request passes
	upgrading              // a request for websocket may go; its answer is awaited
	opaque                 // nothing is looked at any more
)

// record is what is known of a connection.
type record struct {
	ways     policy.Proof // in one of which it is to tell its server
	stage    stage
	requests uint8  // that were allowed, 2 for more
	place    uint16 // where its bytes are kept, 0 for nowhere
	follower tlshello.Follower
	body     httphead.Body
}
