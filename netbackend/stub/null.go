package stub

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
)

// Null takes every frame and sends none.
type Null struct{ base }

var _ netbackend.Port = (*Null)(nil)

// NewNull returns a Null.
func NewNull() *Null { return &Null{} }

// Offers implements netbackend.Port: to throw a frame away, none of its checksums need be right. Receive offloads are
// offered as well, so that the guest sets itself up as it would for a real network.
func (n *Null) Offers() uint64 { return transmitOffloads | receiveOffloads }

// Turn implements netbackend.Port.
func (n *Null) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, _ *netbackend.RXWriter) (done int, next int64) {
	n.swallow(tx)
	return len(tx), 0
}
