package vhostuser

import (
	"fmt"

	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue"
)

// applyToRing does what a message about one ring asks for.
func (s *session) applyToRing(m *wire.Message, fds fdconn.FDs) error {
	if m.Ring >= uint32(len(s.rings)) {
		return refuse("ring %d: %s", m.Ring, s.fewRings())
	}
	i := int(m.Ring)
	s.rings[i].refused = false
	switch m.Request {
	case wire.SetVringNum:
		return s.setNum(i, m.Num)
	case wire.SetVringBase:
		return s.setBase(i, m.Num)
	case wire.SetVringAddr:
		return s.setAddr(i, m.Addr)
	case wire.GetVringBase:
		return s.getBase(i)
	case wire.SetVringEnable:
		if err := s.noticeReset(i, m.Num == 1); err != nil {
			return err
		}
		return s.enable(i, m.Num == 1)
	case wire.SetVringKick, wire.SetVringCall, wire.SetVringErr:
		return s.setNotifier(i, m, fds)
	}
	return refuse("%v is not implemented", m.Request)
}

// fewRings tells how many rings there are.
func (s *session) fewRings() string {
	text := fmt.Sprintf("the device has %d queue pairs, with rings 0 to %d", len(s.rings)/2, len(s.rings)-1)
	if s.hint != "" {
		text += "; " + s.hint
	}
	return text
}

// setNum takes the size of a ring. A driver that was loaded anew under User-mode Linux begins here without having stopped
// the old ring, whose memory may be something else by now: so the ring waits for its new addresses.
func (s *session) setNum(i int, num uint32) error {
	r := &s.rings[i]
	if r.running {
		if err := s.stop(i); err != nil {
			return err
		}
		r.haveAddr, r.exact = false, true
	}
	r.num = num
	return nil
}

// setBase takes the index at which a ring begins. If the ring runs already, this either completes its description, and
// the ring starts again from there; or it begins a new one, as with setNum.
func (s *session) setBase(i int, base uint32) error {
	state, err := virtqueue.StateFromBase(base)
	if err != nil {
		return refuse("%w", err)
	}
	r := &s.rings[i]
	if r.running {
		if err := s.stop(i); err != nil {
			return err
		}
		if r.haveBase {
			r.haveAddr, r.exact = false, true
		}
	}
	r.state, r.haveBase = state, true
	return nil
}

func (s *session) setAddr(i int, addr wire.RingAddr) error {
	r := &s.rings[i]
	same := r.addr
	same.Log, same.Logged = addr.Log, addr.Logged
	if r.running && same == addr {
		r.addr = addr
		return s.followLogging()
	}
	if err := s.stop(i); err != nil {
		return err
	}
	r.addr, r.haveAddr = addr, true
	return nil
}

// getBase stops a ring and answers where it stands. The ring keeps its size, addresses and enabled flag, and needs a new
// SET_VRING_KICK to run again.
func (s *session) getBase(i int) error {
	r := &s.rings[i]
	// Where a ring stands that has not run yet in this session nobody has learnt: DPDK asks first of all when it connects again,
	// and then names base 0.
	r.exact = r.exact || r.running
	if r.running && s.logs(i) {
		s.dev.stoppedWhileLogging()
	}
	if err := s.stop(i); err != nil {
		return err
	}
	closeFD(r.fds.Kick)
	closeFD(r.fds.Call)
	r.fds.Kick, r.fds.Call, r.haveKick = noFD, noFD, false
	return s.conn.Write(wire.AppendState(nil, wire.GetVringBase, uint32(i), r.state.Base()))
}

// enable enables or disables ring i. A ring that runs and was not enabled yet is disabled by that as well: it makes a
// difference to the frames that wait in it.
func (s *session) enable(i int, on bool) error {
	r := &s.rings[i]
	if r.enabled == on && (on || !r.running) {
		return nil
	}
	if err := s.dev.EnableRing(i, on); err != nil {
		return fail(err, "enable ring %d", i)
	}
	r.enabled = on
	return nil
}

// noticeReset looks whether the driver has reset its device, before ring i is enabled or not. QEMU before 10 does not tell, but
// where it stops all rings and enables them again without starting them, that is a reset. When it stops them for a pause or
// an unplugged cable it enables none before it starts them, which takes no time.
func (s *session) noticeReset(i int, on bool) error {
	r := &s.rings[i]
	if !on || s.driverGone || !r.exact || r.haveKick || s.anyRunning() {
		return nil
	}
	if err := s.dev.DriverGone(); err != nil {
		return fail(err, "take the driver for gone")
	}
	s.driverGone = true
	return nil
}

func (s *session) enableAll() error  { return s.each(func(i int) error { return s.enable(i, true) }) }
func (s *session) disableAll() error { return s.each(func(i int) error { return s.enable(i, false) }) }

func (s *session) each(do func(i int) error) error {
	for i := range s.rings {
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// setNotifier takes one descriptor of a ring, or that there is none.
func (s *session) setNotifier(i int, m *wire.Message, fds fdconn.FDs) error {
	fd := noFD
	if !m.NoFD {
		if err := prepareNotifier(fds[0]); err != nil {
			return refuse("file descriptor %w", err)
		}
		fd = fds.Take(0)
	}
	r := &s.rings[i]
	switch m.Request {
	case wire.SetVringKick:
		r.haveKick = true
		return s.replaceFD(r, &r.fds.Kick, fd, func() error { return s.dev.SetKick(i, fd) })
	case wire.SetVringCall:
		return s.replaceFD(r, &r.fds.Call, fd, func() error { return s.dev.SetCall(i, fd) })
	default:
		return s.replaceFD(r, &r.fds.Err, fd, func() error { return s.dev.SetErr(i, fd) })
	}
}

// replaceFD makes fd the descriptor in slot, of which tell informs the device if it serves the ring.
func (s *session) replaceFD(r *ring, slot *int, fd int, tell func() error) error {
	old := *slot
	*slot = fd
	if r.running {
		if err := tell(); err != nil {
			s.limboFDs = append(s.limboFDs, old)
			return fail(err, "replace a file descriptor")
		}
	}
	closeFD(old)
	return nil
}

// suspend stops ring i, if it runs, to let it go on after a change. A ring that is disabled may belong to a driver that
// is gone, as User-mode Linux does not stop rings: it is not touched until its addresses come again.
func (s *session) suspend(i int) error {
	r := &s.rings[i]
	if r.running && !r.enabled {
		r.haveAddr = false
	}
	return s.stop(i)
}

// stop ends the service of ring i, if there is one, and notes where it stands.
func (s *session) stop(i int) error {
	r := &s.rings[i]
	if !r.running {
		return nil
	}
	state, err := s.dev.StopRing(i)
	if err != nil {
		return fail(err, "stop ring %d", i)
	}
	r.state, r.running = state, false
	return nil
}

func (s *session) anyRunning() bool {
	for i := range s.rings {
		if s.rings[i].running {
			return true
		}
	}
	return false
}

// retryRefused lets rings be tried again after a change that concerns them all.
func (s *session) retryRefused() {
	for i := range s.rings {
		s.rings[i].refused = false
	}
}

// startRings starts the rings that can run and do not. Rings need the features to be known, since the size of the frame
// header depends on them.
func (s *session) startRings() error {
	s.waits = false
	if s.mem == nil || !s.haveFeatures {
		return nil
	}
	return s.each(func(i int) error {
		r := &s.rings[i]
		if r.running || r.refused || !r.complete() || !s.canLog(i, s.mem) {
			return nil
		}
		if !s.dev.mayStart() {
			s.wait()
			return nil
		}
		return s.start(i)
	})
}

// wait leaves rings for later that could run: another front end has the device.
func (s *session) wait() {
	s.waits = true
	if !s.toldWaits {
		s.toldWaits = true
		s.log.Warn("a guest waits for the network, which another front end's guest has",
			"hint", "it gets it when the other one has gone, or was migrated to here; have two guests the same socket?")
	}
}

// start starts ring i, or refuses it until its description changes. The message that completed the description is not to
// blame, so it is not refused.
func (s *session) start(i int) error {
	r := &s.rings[i]
	r.logging = s.logging(i)
	cfg, err := r.config(i, s.features)
	if err == nil {
		err = cfg.Check(s.mem)
	}
	if err != nil {
		r.refused = true
		s.log.Warn("a ring cannot be served", "ring", i, "err", err)
		signal(r.fds.Err)
		return nil
	}
	s.driverGone = false
	r.running = true // should StartRing fail, the device may use the ring
	if err := s.dev.StartRing(i, cfg, r.fds); err != nil {
		return fail(err, "start ring %d", i)
	}
	return nil
}
