package vhostuser

import (
	"errors"

	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// dirtyLog is what the front end of a guest that is being migrated has told about its dirty log. The log stays after logging
// was switched off, since front ends switch it off and on without another SET_LOG_BASE.
//
// No ring runs whose writes are to be logged and cannot be: that would be a guest whose memory is wrong where it goes on, with
// nobody to notice. Front ends that start rings before they pass the log again, as QEMU does after a migration that failed, have
// them start then.
type dirtyLog struct {
	log     *guestmem.Log // SET_LOG_BASE; nil until it came
	buffers bool          // LOG_ALL is acknowledged
	told    bool          // the log is too small for the memory, and that was told
	limbo   []*guestmem.Log
}

// release gives up all logs. No ring may run.
func (d *dirtyLog) release() error {
	var err error
	for _, l := range append(d.limbo, d.log) {
		if l != nil {
			err = errors.Join(err, l.Release())
		}
	}
	d.log, d.limbo = nil, nil
	return err
}

// setLogBase takes a dirty log, in the place of the one before. When it is answered, nobody uses that any more.
func (s *session) setLogBase(m *wire.Message, fds fdconn.FDs) error {
	if s.protocol&wire.ProtocolLogSHMFD == 0 {
		return refuse("%v was not negotiated", wire.ProtocolNames(wire.ProtocolLogSHMFD))
	}
	l, err := s.budget.MapLog(fds[0], m.LogSize, m.LogOffset)
	if err != nil {
		return refuse("%w", err)
	}
	old := s.dirty.log
	s.dirty.log, s.dirty.told = l, false
	s.tellUncovered()
	if err := s.followLogging(); err != nil {
		s.dirty.limbo = append(s.dirty.limbo, old)
		return err
	}
	if old != nil {
		if err := old.Release(); err != nil {
			s.log.Warn("release a dirty log", "err", err)
		}
	}
	return s.reply(m, 0)
}

// logs reports whether writes for ring i are to be logged.
func (s *session) logs(i int) bool { return s.dirty.buffers || s.rings[i].addr.Logged }

// canLog reports whether ring i can run with t as the guest's memory, as far as logging goes.
func (s *session) canLog(i int, t *guestmem.Table) bool {
	return !s.logs(i) || s.dirty.log != nil && s.dirty.log.Covers(t)
}

// logging is what the device is to mark for ring i.
func (s *session) logging(i int) virtqueue.Logging {
	if !s.logs(i) || s.dirty.log == nil {
		return virtqueue.Logging{}
	}
	addr := &s.rings[i].addr
	return virtqueue.Logging{
		Log: s.dirty.log, Buffers: s.dirty.buffers, Ring: addr.Logged, UsedAt: guestmem.GPA(addr.Log),
	}
}

// followLogging tells the device what it is to mark from now on. Rings that cannot be logged stop until they can.
func (s *session) followLogging() error {
	return s.each(func(i int) error {
		r := &s.rings[i]
		if !r.running {
			return nil
		}
		if !s.canLog(i, s.mem) {
			return s.stop(i)
		}
		want := s.logging(i)
		if want == r.logging {
			return nil
		}
		if err := s.dev.SetLogging(i, want); err != nil {
			return fail(err, "log the writes for ring %d", i)
		}
		r.logging = want
		return nil
	})
}

// tellUncovered tells the log, once, that the dirty log is too small.
func (s *session) tellUncovered() {
	d := &s.dirty
	if d.log == nil || d.log.Covers(s.mem) || d.told {
		return
	}
	d.told = true
	s.log.Warn("the dirty log is too small for the guest's memory: rings whose writes it is to hold do not run")
}
