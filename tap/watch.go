package tap

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
)

// Watch follows what others do to the device, until done is closed: it takes over its MTU, tells when it leaves or joins
// a bridge, and notices also without a guest that it was deleted. tell is called from a goroutine of the Device's own.
func (d *Device) Watch(done <-chan struct{}, tell func(netbackend.Notice)) error {
	link, err := netlink.LinkByName(d.cfg.Name)
	if err != nil {
		return err
	}
	const backlog = 64
	updates := make(chan netlink.LinkUpdate, backlog)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return err
	}
	go func() {
		w := watcher{d, tell, link.Attrs().MasterIndex}
		for u := range updates {
			if u.Attrs().Name == d.cfg.Name {
				w.see(&u)
			}
		}
	}()
	return nil
}

// watcher is the goroutine of Watch.
type watcher struct {
	device *Device
	tell   func(netbackend.Notice)
	master int // index of the bridge, 0 for none
}

// see looks at what has become of the device. Bridges speak of their ports, too: that is of another family.
func (w *watcher) see(u *netlink.LinkUpdate) {
	switch {
	case u.IfInfomsg.Family == unix.AF_BRIDGE:
	case u.Header.Type == unix.RTM_DELLINK:
		w.device.lose(errDeleted)
		w.master = 0
	default:
		w.seeMTU(u.Attrs().MTU)
		w.seeMaster(u.Attrs().MasterIndex)
	}
}

func (w *watcher) seeMTU(mtu int) {
	if old := w.device.mtu.Swap(int32(mtu)); int(old) != mtu {
		w.tell(netbackend.Notice{
			Level: int(slog.LevelInfo), Message: "the TAP device has another MTU now", Key: "mtu", Value: strconv.Itoa(mtu),
		})
	}
}

func (w *watcher) seeMaster(master int) {
	old := w.master
	w.master = master
	n := netbackend.Notice{Level: int(slog.LevelInfo), Message: "the TAP device is a port of a bridge", Key: "tap", Value: w.device.cfg.Name}
	switch {
	case old == master:
		return
	case master == 0:
		n.Level, n.Message = int(slog.LevelWarn), "the TAP device is not a port of its bridge any more"
	}
	w.tell(n)
}

// lose tells whoever serves the device that it is lost, unless it is waited for.
func (d *Device) lose(reason error) {
	if d.cfg.Reopen {
		return
	}
	select {
	case d.lost <- fmt.Errorf("TAP device %s is lost: %w", d.cfg.Name, reason):
	default:
	}
}

// errDeleted is that somebody deleted the device.
var errDeleted = errors.New("it was deleted")
