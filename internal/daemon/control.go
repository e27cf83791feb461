package daemon

import (
	"net"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/vhostuser"
)

// Control says where the process is controlled while it serves.
type Control struct {
	// Socket is the path of a unix socket that the process makes, for its user and root alone. "" is the first of
	// Config.Sockets with ControlSuffix, if the process makes that one, too.
	Socket string `option:"control" unit:"path, or off" fixed:"the sandbox reaches no file"`
	// Off is that there is none.
	Off bool `option:"control" fixed:"the sandbox reaches no file"`
}

// NoControl stands for the control socket that there is not.
const NoControl = "off"

// ParseControl reads the path of the control socket, or NoControl.
func ParseControl(text string) Control {
	if text == NoControl {
		return Control{Off: true}
	}
	return Control{Socket: text}
}

// String returns c as ParseControl reads it, "" for the default.
func (c Control) String() string {
	if c.Off {
		return NoControl
	}
	return c.Socket
}

// ControlSuffix is what the control socket's name has more than that of the first guest.
const ControlSuffix = ".ctl"

// controlSocket returns the path of the control socket, "" for none. The error is why there is none though nobody said so: a
// path that was not asked for is no reason to serve nobody.
func (c *Config) controlSocket() (path string, err error) {
	switch {
	case !c.HasControl():
		return "", nil
	case c.Control.Socket != "":
		return c.Control.Socket, nil
	}
	path = c.Sockets()[0] + ControlSuffix
	if err := vhostuser.CheckSocketPath(path, false); err != nil {
		return "", err
	}
	return path, nil
}

// HasControl reports whether there is to be a control socket.
func (c *Config) HasControl() bool {
	return !c.Control.Off && (c.Control.Socket != "" || c.listens())
}

// checkControl returns what is wrong with the control socket.
func (c *Config) checkControl() error {
	path := c.Control.Socket
	if path == "" {
		return nil
	}
	var errs *multierror.Error
	if c.Control.Off {
		errs = multierror.Append(errs, faultf("%s %s: there is to be none, and one at that path", optionControl, path))
	}
	for _, other := range c.Sockets() {
		if other == path {
			errs = multierror.Append(errs, faultf("%s %s is a guest's socket: the control socket needs its own", optionControl, path))
		}
	}
	if err := vhostuser.CheckSocketPath(path, false); err != nil {
		errs = multierror.Append(errs, faultf("%s: %w", optionControl, err))
	}
	return errs.ErrorOrNil()
}

// placeControl decides where the control socket is to be. It looks whether somebody has it, so it is called once, before anybody has.
func (d *Daemon) placeControl() {
	var err error
	if d.controlPath, err = d.config.controlSocket(); err != nil {
		d.tell(ControlMissing{err})
	}
}

// openControl opens the control socket, if there is to be one.
func (d *Daemon) openControl() (err error) {
	if d.controlPath == "" {
		return nil
	}
	if d.control, err = d.broker.ListenControl(d.controlPath); err != nil {
		return cannotListen(optionControl, d.controlPath, err)
	}
	return nil
}

// closeControl ends Control's listener, if there is one.
func (d *Daemon) closeControl() error {
	if d.control == nil {
		return nil
	}
	return d.control.Close()
}

// Control returns the connections to the control socket, nil if there is none. The daemon closes the listener when it ends, and
// whoever accepts closes connections.
func (d *Daemon) Control() net.Listener { return d.control }
