package vhostuser

import (
	"errors"
	"log/slog"
	"time"

	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// patience is how long a session waits before it tells that a step has not come.
type patience struct {
	word   time.Duration // the first message
	memory time.Duration // the guest's memory
	reset  time.Duration // RESET_DEVICE, once all rings were stopped
}

func defaultPatience() patience {
	return patience{word: time.Second, memory: 10 * time.Second, reset: time.Second}
}

// story tells the log how far a front end and its guest have come: each step once, and a hint where it goes no further. It
// belongs to the session's goroutine.
type story struct {
	session *session
	log     *limitedLog
	wait    patience
	peer    []any // who is at the other end
	stage   func(Stage)
	quiet   bool // front ends come and go: this one is told of only when it hands over memory

	began   time.Time
	spoke   bool
	told    bool // front end connected
	memory  bool // memory handed over
	hinted  bool // the hint that memory is missing
	up      bool // a ring runs and is enabled
	wasUp   bool
	resets  bool      // the front end tells of resets; QEMU 7.2 acknowledges RESET_DEVICE and never sends it for a network card
	stopped time.Time // when all rings were stopped, if that may be a pause; zero if it was told
}

// next returns when the story is to be looked at though no message has come, zero for never.
func (t *story) next() time.Time {
	switch {
	case !t.stopped.IsZero():
		return t.stopped.Add(t.wait.reset)
	case !t.told && !t.quiet:
		return t.began.Add(t.wait.word)
	case !t.memory && !t.hinted:
		return t.began.Add(t.wait.memory)
	}
	return time.Time{}
}

// quietUntilNow follows the time: no message has come until next.
func (t *story) quietUntilNow() {
	switch {
	case !t.stopped.IsZero():
		t.stopped = time.Time{}
		t.log.Info("guest is paused", "reason", "it has stopped its rings without a reset")
	case !t.told && !t.quiet:
		t.connected()
	case !t.memory && !t.hinted:
		t.hint()
	}
}

// connected tells that the front end is there.
func (t *story) connected() {
	if !t.told {
		t.told = true
		t.log.Info("front end connected", t.peer...)
	}
}

// hint tells what may be wrong if no memory comes.
func (t *story) hint() {
	t.hinted = true
	t.connected()
	const cure = "in QEMU: share=on of the memory backend, and memory-backend= of -machine"
	switch {
	case !t.spoke:
		t.log.Warn("the front end says nothing", "hint", notVhostUser)
	case t.session.haveFeatures:
		t.log.Warn("the guest's driver is up, but its memory was not handed over", "hint", cure)
	default:
		t.log.Info("the front end has handed over no memory yet",
			"hint", "the guest's network driver is not up yet, or its memory cannot be shared; "+cure)
	}
}

const notVhostUser = "is it a vhost-user front end? in QEMU: -netdev vhost-user"

// before is called before a message is handled.
func (t *story) before(r wire.Request) {
	t.spoke = true
	t.resets = t.resets || r == wire.ResetDevice
	if !t.quiet {
		t.connected()
	}
	if !t.stopped.IsZero() && r != wire.GetVringBase && r != wire.ResetDevice {
		t.quietUntilNow()
	}
}

// after is called after a message was handled, and the rings were started that can run.
func (t *story) after(r wire.Request) {
	if t.session.mem != nil && !t.memory && r != wire.AddMemReg { // slots come one by one
		t.memory = true
		t.connected()
		t.log.Info("memory handed over", "mib", t.session.memorySize()>>20, "regions", len(t.session.regions()))
	}
	if up := t.session.anyActive(); up != t.up {
		t.up = up
		t.driverChanged(r)
	} else if r == wire.ResetDevice && !t.stopped.IsZero() {
		t.driverGone(r)
	}
}

// driverChanged tells that the guest's driver is up, or not any more.
func (t *story) driverChanged(r wire.Request) {
	t.stage(map[bool]Stage{false: Connected, true: DriverUp}[t.up])
	switch {
	case t.up && t.wasUp:
		t.log.Info("guest driver is up again", "features", vnet.FeatureNames(t.session.features))
	case t.up:
		t.wasUp = true
		t.log.Info("guest driver is up",
			"features", vnet.FeatureNames(t.session.features),
			"protocol_features", wire.ProtocolNames(t.session.protocol),
			"queue_pairs", len(t.session.rings)/2,
			"memory_mib", t.session.memorySize()>>20)
	case r == wire.GetVringBase && t.resets:
		t.stopped = time.Now() // by a pause, unless a reset follows
	default:
		t.driverGone(r)
	}
}

func (t *story) driverGone(r wire.Request) {
	t.stopped = time.Time{}
	reason := "its rings were stopped: a reboot, an unloaded driver, or a paused guest"
	if r == wire.ResetDevice {
		reason = "it has reset its device: a reboot, or an unloaded driver"
	}
	t.log.Info("guest driver is gone", "reason", reason)
}

// end tells how it ended: why the front end was given up, nil if it hung up.
func (t *story) end(reason error) {
	switch {
	case reason != nil && !t.spoke || errors.Is(reason, wire.ErrFraming) && t.session.handled == 0:
		t.session.log.Warn("front end given up", "reason", reason, "hint", notVhostUser)
	case reason != nil:
		t.session.log.Warn("front end given up", "reason", reason)
	case t.told:
		t.log.Info("front end disconnected")
	default:
		t.log.Debug("front end disconnected")
	}
}

// anyActive reports whether a ring runs and is enabled: then the guest has a driver.
func (s *session) anyActive() bool {
	for i := range s.rings {
		if s.rings[i].running && s.rings[i].enabled {
			return true
		}
	}
	return false
}

// peerAttrs returns who is at the other end, for the log, or nothing if this namespace of processes does not show it.
func peerAttrs(pid, uid int, ok bool) []any {
	if !ok || pid == 0 {
		return nil
	}
	return []any{slog.Int("pid", pid), slog.Int("uid", uid)}
}
