package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"
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

// check returns all that is wrong with the flags. listens tells whether vring makes the socket.
func (f *socketFlags) check(listens bool) error {
	var errs *multierror.Error
	if f.modeText != "" {
		if _, err := parseMode(f.modeText); err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	if f.groupText != "" {
		if _, err := lookupGroup(f.groupText); err != nil {
			errs = multierror.Append(errs, err)
		}
	}
	if !listens && f.modeText+f.groupText != "" {
		errs = multierror.Append(errs, fmt.Errorf("--socket-mode and --socket-group need a socket that vring listens on: "+
			"--socket-path without --client"))
	}
	return errs.ErrorOrNil()
}

// mode and groupID return what the flags say, 0 for what they do not. They were checked.
func (f *socketFlags) mode() os.FileMode {
	mode, _ := parseMode(f.modeText)
	return mode
}

func (f *socketFlags) groupID() int {
	if f.groupText == "" {
		return 0
	}
	id, _ := lookupGroup(f.groupText)
	return id
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
