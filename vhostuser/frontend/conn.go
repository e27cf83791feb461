package frontend

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// replyTimeout is how long a back end may take to answer. Stopping a ring takes it a second at worst.
const replyTimeout = 10 * time.Second

// RefusedError tells that the back end acknowledged a message with something other than 0.
type RefusedError struct {
	Request wire.Request
	Value   uint64
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("back end refused %v with %d", e.Request, e.Value)
}

// Conn is a connection to a back end.
type Conn struct {
	conn     *fdconn.Conn
	features uint64 // acknowledged by Negotiate
	protocol uint64
	// AlwaysAck asks for an acknowledgement of every message that has no reply, if REPLY_ACK was negotiated.
	AlwaysAck bool
}

// Dial connects to a back end that listens on path.
func Dial(path string) (*Conn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &Conn{conn: fdconn.New(c, replyTimeout)}, nil
}

// NewConn takes over fd, a unix stream socket that is connected to a back end.
func NewConn(fd int) (*Conn, error) {
	f := os.NewFile(uintptr(fd), "back end")
	defer f.Close() // package net works on a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("file descriptor %d is not a unix socket", fd)
	}
	return &Conn{conn: fdconn.New(u, replyTimeout)}, nil
}

// Close hangs up.
func (c *Conn) Close() error { return c.conn.Close() }

// Features returns the virtio features, and ProtocolFeatures the protocol features that Negotiate acknowledged.
func (c *Conn) Features() uint64 { return c.features }

// ProtocolFeatures: see Features.
func (c *Conn) ProtocolFeatures() uint64 { return c.protocol }

// Write sends bytes as they are, with descriptors on the first of them: for what Send cannot say.
func (c *Conn) Write(b []byte, fds ...int) error { return c.conn.Write(b, fds...) }

// Send sends a message that has no reply, and waits for its acknowledgement if it asks for one. The error is a
// *RefusedError if that is negative.
func (c *Conn) Send(m wire.Message, fds ...int) error {
	if c.AlwaysAck && c.protocol&wire.ProtocolReplyAck != 0 {
		m.NeedReply = true
	}
	if err := c.conn.Write(m.Append(nil), fds...); err != nil || !m.NeedReply {
		return err
	}
	r, err := c.ReadReply(m.Request)
	if err != nil {
		return err
	}
	if r.Value != 0 {
		return &RefusedError{Request: m.Request, Value: r.Value}
	}
	return nil
}

// Call sends a message that has a reply, and returns what that holds.
func (c *Conn) Call(m wire.Message, fds ...int) (uint64, error) {
	if err := c.conn.Write(m.Append(nil), fds...); err != nil {
		return 0, err
	}
	r, err := c.ReadReply(m.Request)
	return r.Value, err
}

// ReadReply waits for the next reply, which has to be one to request.
func (c *Conn) ReadReply(request wire.Request) (wire.Reply, error) {
	var b [wire.ReplySize]byte
	if err := c.conn.ReadReply(b[:]); err != nil {
		return wire.Reply{}, fmt.Errorf("reply to %v: %w", request, err)
	}
	r, err := wire.DecodeReply(b[:])
	if err == nil && r.Request != request {
		err = fmt.Errorf("%w: reply to %v, want %v", wire.ErrFraming, r.Request, request)
	}
	return r, err
}

// GetFeatures asks for the virtio features on offer.
func (c *Conn) GetFeatures() (uint64, error) { return c.Call(wire.Message{Request: wire.GetFeatures}) }

// SetFeatures acknowledges virtio features.
func (c *Conn) SetFeatures(f uint64) error {
	return c.Send(wire.Message{Request: wire.SetFeatures, Value: f})
}

// GetProtocolFeatures asks for the protocol features on offer.
func (c *Conn) GetProtocolFeatures() (uint64, error) {
	return c.Call(wire.Message{Request: wire.GetProtocolFeatures})
}

// SetProtocolFeatures acknowledges protocol features.
func (c *Conn) SetProtocolFeatures(f uint64) error {
	return c.Send(wire.Message{Request: wire.SetProtocolFeatures, Value: f})
}

// GetQueueNum asks for the number of queue pairs.
func (c *Conn) GetQueueNum() (uint64, error) { return c.Call(wire.Message{Request: wire.GetQueueNum}) }

// SetOwner begins a session.
func (c *Conn) SetOwner() error { return c.Send(wire.Message{Request: wire.SetOwner}) }

// ResetOwner disables all rings.
func (c *Conn) ResetOwner() error { return c.Send(wire.Message{Request: wire.ResetOwner}) }

// SetMemTable passes the guest's memory, and waits for the acknowledgement if it can have one, as QEMU does.
func (c *Conn) SetMemTable(regions []guestmem.Region) error { return c.Do(memTable(regions)) }

// GetMaxMemSlots asks how many memory slots the back end takes.
func (c *Conn) GetMaxMemSlots() (uint64, error) {
	return c.Call(wire.Message{Request: wire.GetMaxMemSlots})
}

// AddMemReg passes one region of the guest's memory, and RemMemReg takes it away. Both wait for the acknowledgement if they
// can have one.
func (c *Conn) AddMemReg(r guestmem.Region) error { return c.Do(addMemory(r)) }

// RemMemReg: see AddMemReg.
func (c *Conn) RemMemReg(r guestmem.Region) error {
	return c.Do(Step{Message: slotMessage(wire.RemMemReg, r)})
}

// ResetDevice tells that the driver has reset its device.
func (c *Conn) ResetDevice() error { return c.Send(wire.Message{Request: wire.ResetDevice}) }

// SetLogBase passes the file of a dirty log, of which size bytes from offset on are the log, and waits for the answer.
func (c *Conn) SetLogBase(fd int, size, offset uint64) error {
	_, err := c.Call(wire.Message{Request: wire.SetLogBase, LogSize: size, LogOffset: offset}, fd)
	return err
}

// SetVringNum sets the size of a ring.
func (c *Conn) SetVringNum(ring int, num uint32) error {
	return c.Send(wire.Message{Request: wire.SetVringNum, Ring: uint32(ring), Num: num})
}

// SetVringAddr sets the addresses of a ring.
func (c *Conn) SetVringAddr(ring int, a wire.RingAddr) error {
	return c.Send(wire.Message{Request: wire.SetVringAddr, Ring: uint32(ring), Addr: a})
}

// SetVringBase sets the index at which a ring begins.
func (c *Conn) SetVringBase(ring int, base uint16) error {
	return c.Send(wire.Message{Request: wire.SetVringBase, Ring: uint32(ring), Num: uint32(base)})
}

// GetVringBase stops a ring and returns the index of its first entry that was not used.
func (c *Conn) GetVringBase(ring int) (uint16, error) {
	v, err := c.Call(wire.Message{Request: wire.GetVringBase, Ring: uint32(ring)})
	if err == nil && uint32(v) != uint32(ring) {
		err = fmt.Errorf("reply to GET_VRING_BASE of ring %d is about ring %d", ring, uint32(v))
	}
	return uint16(v >> 32), err
}

// SetVringKick passes the eventfd by which the driver kicks, -1 for none.
func (c *Conn) SetVringKick(ring, fd int) error { return c.Do(notifier(wire.SetVringKick, ring, fd)) }

// SetVringCall passes the eventfd that interrupts the driver, -1 for none.
func (c *Conn) SetVringCall(ring, fd int) error { return c.Do(notifier(wire.SetVringCall, ring, fd)) }

// SetVringErr passes the eventfd that tells of errors, -1 for none.
func (c *Conn) SetVringErr(ring, fd int) error { return c.Do(notifier(wire.SetVringErr, ring, fd)) }

// SetVringEnable lets a ring carry frames, or not.
func (c *Conn) SetVringEnable(ring int, on bool) error { return c.Do(enable(ring, on)) }

// SendRARP has the back end announce mac to the network.
func (c *Conn) SendRARP(mac [6]byte) error {
	return c.Send(wire.Message{Request: wire.SendRARP, MAC: mac})
}

// SetMTU tells the guest's MTU.
func (c *Conn) SetMTU(mtu int) error {
	return c.Send(wire.Message{Request: wire.NetSetMTU, Value: uint64(mtu)})
}

// SetBackendReqFD passes the socket on which the back end may send requests.
func (c *Conn) SetBackendReqFD(fd int) error {
	return c.Send(wire.Message{Request: wire.SetBackendReqFD}, fd)
}
