package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

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
		mode, err := parseMode(f.modeText)
		c.SocketMode, errs = mode, multierror.Append(errs, err)
	}
	if f.groupText != "" {
		group, err := lookupGroup(f.groupText)
		c.SocketGroup, errs = &group, multierror.Append(errs, err)
	}
	return errs.ErrorOrNil()
}

func parseMode(text string) (os.FileMode, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode == 0 || mode > 0o777 {
		return 0, fmt.Errorf("--socket-mode %q: want octal permissions, as in 0660", text)
	}
	return os.FileMode(mode), nil
}

func lookupGroup(text string) (int, error) {
	if id, err := strconv.ParseUint(text, 10, 31); err == nil {
		return int(id), nil
	}
	g, err := user.LookupGroup(text)
	if err != nil {
		return 0, fmt.Errorf("--socket-group %q: there is no such group", text)
	}
	return strconv.Atoi(g.Gid)
}
