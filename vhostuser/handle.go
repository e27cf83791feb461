package vhostuser

import (
	"errors"
	"fmt"

	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// neverOffered are features that a device does not hear of: the session deals with them, whatever a device says.
const neverOffered = wire.FeatureProtocolFeatures | vnet.FeatureLogAll

// protocolFeatures returns what this package offers for a device with so many queue pairs. With one pair MQ stays out:
// front ends take it for granted that there is one, and do not ask for the number of pairs, which they read in different
// ways.
//
// The back-end channel is not used. User-mode Linux 6.1 needs it all the same, or it finds no interrupt for its device; it
// connects to a socket that this package listens on. Elsewhere it is left out: for a back end that it starts itself, with
// an inherited socket, QEMU 11 (-netdev passt) closes a descriptor twice once the channel is there.
func protocolFeatures(pairs int, channel bool) uint64 {
	f := wire.ProtocolLogSHMFD | wire.ProtocolRARP | wire.ProtocolReplyAck | wire.ProtocolNetMTU | wire.ProtocolResetDevice |
		wire.ProtocolConfigureMemSlots | wire.ProtocolGPAAddresses
	if channel {
		f |= wire.ProtocolBackendReq
	}
	if pairs > 1 {
		f |= wire.ProtocolMQ
	}
	return f
}

var (
	// errRefused marks a request that cannot be honoured and changed nothing. The front end relies on it, so if it did
	// not ask for an acknowledgement there is no way but to end the session.
	errRefused = errors.New("refused")
	// errDeclined marks a request that was not honoured and that the front end can do without.
	errDeclined = errors.New("declined")
)

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errRefused, fmt.Errorf(format, args...))
}

func isRefused(err error) bool { return errors.Is(err, errRefused) || errors.Is(err, wire.ErrValue) }
func isDeclined(err error) bool {
	return errors.Is(err, errDeclined) || errors.Is(err, wire.ErrUnknown)
}

// handle does what one message asks for, starts the rings that can run now, and answers. An error ends the session.
func (s *session) handle(m fdconn.Message) error {
	defer m.FDs.Close()
	s.story.before(m.Header.Request)
	msg, err := decode(m)
	if err == nil {
		s.handled++
		err = s.apply(&msg, m.FDs)
	}
	if err == nil || isRefused(err) || isDeclined(err) {
		if failed := s.startRings(); failed != nil {
			return failed
		}
	}
	s.story.after(m.Header.Request)
	return s.acknowledge(m.Header, err)
}

// decode decodes a message. Where its descriptors are not what it needs, because some are missing, the error says why.
func decode(m fdconn.Message) (wire.Message, error) {
	msg, err := wire.Decode(m.Header, m.Payload, len(m.FDs))
	if m.FDErr != nil && (err == nil || errors.Is(err, wire.ErrFDs)) {
		err = refuse("%w", m.FDErr)
	}
	return msg, err
}

// acknowledge tells the front end how its message fared, if it asks (protocol feature REPLY_ACK).
//
// Whether REPLY_ACK was negotiated does not matter: a front end that sets NEED_REPLY waits.
func (s *session) acknowledge(h wire.Header, err error) error {
	if err != nil && !isRefused(err) && !isDeclined(err) {
		return err
	}
	if h.NeedReply && !h.Request.HasReply() {
		result := uint64(0)
		if err != nil {
			s.log.Warn("refused a message of the front end", "message", h.Request, "err", err)
			result = 1
		}
		return s.conn.Write(wire.AppendU64(nil, h.Request, result))
	}
	if isDeclined(err) {
		s.log.Info("ignored a message of the front end", "message", h.Request, "err", err)
		return nil
	}
	return err
}

// apply does what a valid message asks for. It takes the descriptors that it keeps out of fds.
func (s *session) apply(m *wire.Message, fds fdconn.FDs) error {
	switch m.Request {
	case wire.GetFeatures:
		return s.reply(m, s.offered)
	case wire.SetFeatures:
		return s.setFeatures(m.Value)
	case wire.SetOwner:
		return nil // a connection has one owner anyway
	case wire.ResetOwner:
		return s.disableAll()
	case wire.GetProtocolFeatures:
		return s.reply(m, s.offeredProtocol)
	case wire.SetProtocolFeatures:
		return s.setProtocolFeatures(m.Value)
	case wire.GetQueueNum:
		return s.reply(m, uint64(s.dev.QueuePairs()))
	case wire.SetMemTable:
		return s.setMemory(m.Regions, fds)
	case wire.SetLogBase:
		return s.setLogBase(m, fds)
	case wire.SetLogFD:
		return s.needs(wire.ProtocolLogSHMFD) // it would be told of each change of the log, which nobody asks for
	case wire.SetBackendReqFD:
		closeFD(s.backendFD)
		s.backendFD = fds.Take(0)
		return nil
	case wire.GetMaxMemSlots:
		return s.reply(m, uint64(s.slots))
	case wire.AddMemReg:
		return s.addMemory(m.Regions[0], fds)
	case wire.RemMemReg:
		return s.removeMemory(m.Regions[0])
	case wire.ResetDevice:
		return s.resetDevice()
	case wire.SendRARP:
		return decline(s.dev.SendRARP(m.MAC))
	case wire.NetSetMTU:
		return decline(s.dev.SetMTU(int(m.Value)))
	default:
		return s.applyToRing(m, fds)
	}
}

// needs declines a message whose protocol feature was not negotiated.
func (s *session) needs(feature uint64) error {
	if s.protocol&feature == 0 {
		return decline(fmt.Errorf("%v was not negotiated", wire.ProtocolNames(feature)))
	}
	return nil
}

func (s *session) reply(m *wire.Message, value uint64) error {
	return s.conn.Write(wire.AppendU64(nil, m.Request, value))
}

func decline(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", errDeclined, err)
	}
	return nil
}

// setFeatures takes the features that the driver acknowledged. Front ends repeat the message while rings run, for each
// queue pair or to switch logging: what does not change stays untouched, and nothing is disabled ever.
func (s *session) setFeatures(f uint64) error {
	if extra := f &^ s.offered; extra != 0 {
		return refuse("features that were not offered: %v", vnet.FeatureNames(extra))
	}
	if err := s.changeFeatures(f &^ neverOffered); err != nil {
		return err
	}
	s.dirty.buffers = f&vnet.FeatureLogAll != 0
	if err := s.followLogging(); err != nil {
		return err
	}
	if f&wire.FeatureProtocolFeatures == 0 {
		return s.enableAll() // then there is no SET_VRING_ENABLE ("Ring states")
	}
	return nil
}

func (s *session) changeFeatures(f uint64) error {
	if s.haveFeatures && f == s.features && s.anyRunning() {
		return nil
	}
	for i := range s.rings {
		if err := s.suspend(i); err != nil {
			return err
		}
	}
	if err := s.dev.SetFeatures(f); err != nil {
		return refuse("%w", err)
	}
	s.features, s.haveFeatures = f, true
	s.retryRefused()
	return nil
}

// resetDevice forgets the guest's driver, which has reset its device (RESET_DEVICE): what it acknowledged, and all of its
// rings but the descriptors by which they tell the front end something. The memory is the machine's and stays.
func (s *session) resetDevice() error {
	if err := s.needs(wire.ProtocolResetDevice); err != nil {
		return err
	}
	for i := range s.rings {
		if err := s.stop(i); err != nil {
			return err
		}
		if err := s.enable(i, false); err != nil {
			return err
		}
		s.rings[i].forget()
	}
	s.features, s.haveFeatures, s.driverGone, s.dirty.buffers = 0, false, true, false
	if err := s.dev.DriverReset(); err != nil {
		return fail(err, "reset the driver's state")
	}
	return nil
}

func (s *session) setProtocolFeatures(f uint64) error {
	if extra := f &^ s.offeredProtocol; extra != 0 {
		return refuse("protocol features that were not offered: %v", wire.ProtocolNames(extra))
	}
	s.protocol = f
	return nil
}
