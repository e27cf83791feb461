package main

import (
	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
)

// socketFlags say who may connect to the socket that vring listens on, and so be the guest's front end.
type socketFlags struct {
	modeText  string
	groupText string
}

func (f *socketFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.modeText, "socket-mode", "", "permissions of the socket's file, in octal (default 0600: the owner alone)")
	flags.StringVar(&f.groupText, "socket-group", "", "group, by name or number, that the socket's file is given to, with --socket-mode 0660")
}

// set says in c what the flags say. The error holds all that is wrong.
func (f *socketFlags) set(c *daemon.FrontEnds) error {
	var errs *multierror.Error
	if f.modeText != "" {
		mode, err := daemon.ParseSocketMode(f.modeText)
		c.SocketMode, errs = mode, multierror.Append(errs, err)
	}
	if f.groupText != "" {
		group, err := daemon.LookupGroup(f.groupText)
		c.SocketGroup, errs = &group, multierror.Append(errs, err)
	}
	return errs.ErrorOrNil()
}
