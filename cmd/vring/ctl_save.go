package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/regularfile"
	"github.com/vringnet/vring/internal/replacefile"
)

func (c *ctl) configSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "save", Short: "Write what runs to the configuration file", Args: noArgs,
		Long: `Write the configuration as it is now to the file of vring serve, so that what was changed by vring ctl is there after a restart and a reload.

The file must be as it was when it was read last: otherwise vring ctl reload is needed first. It gets the normal form of vring config print,
without comments; the one of before stays beside it, with ~ behind its name. At any moment the file is the old one or the new one, whole.
vring itself may write no file: the user of this command must be able to write it, and its directory.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkOnce(); err != nil {
				return err
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) { return saveConfig(ctx, client) })
		},
	}
}

// saveConfig writes what runs to the file that it follows.
func saveConfig(ctx context.Context, client *control.Client) (report, error) {
	r := new(savedReport)
	if err := client.Do(ctx, http.MethodGet, "/v1/config/diff", nil, r); err != nil {
		return nil, err
	}
	if r.Path == "" {
		return nil, wrongUse(errors.New("this vring was started with flags, and follows no file; vring ctl config show > FILE makes one, and vring serve FILE follows it"))
	}
	old, err := regularfile.Read(r.Path, daemon.MaxConfigFile)
	if err != nil {
		return nil, notSaved(err)
	}
	if control.Sum(old) != r.Adopted {
		return nil, wrongUse(fmt.Errorf("%s was changed since vring has read it; vring ctl reload adopts it, and vring ctl config show > OTHER keeps what runs elsewhere", r.Path))
	}
	if len(r.Differences) == 0 {
		return r, nil
	}
	var text control.Text
	if err := client.Do(ctx, http.MethodGet, "/v1/config", nil, &text); err != nil {
		return nil, err
	}
	if err := checkSaved(r.Path, old, text); err != nil {
		return nil, err
	}
	if err := replacefile.Replace(r.Path, old, text); err != nil {
		return nil, notSaved(err)
	}
	if err := client.Do(ctx, http.MethodPost, "/v1/config/saved", api.ConfigSaved{SHA256: control.Sum(text)}, nil); err != nil {
		return nil, fmt.Errorf("the file is written, but vring does not count it as adopted: %w", err)
	}
	return r, nil
}

// notSaved is an error of the file. It is no error of the control socket, so explain must not find what it is.
func notSaved(err error) error {
	return fmt.Errorf("nothing is saved: %v; the user of this command must be able to read the file, and to write in its directory", err)
}

// checkSaved returns why a text is not written to a file that is old: it must be a configuration, and one that a vring can have come to from
// the old one. A vring that a guest has taken over must not choose what is not in a guest's reach when it is started again.
func checkSaved(path string, old, text []byte) error {
	was, err := configfile.Parse(path, old, daemon.LookupGroup)
	if err != nil {
		return wrongFile(err)
	}
	is, err := configfile.Parse("what runs", text, daemon.LookupGroup)
	if err != nil {
		return wrongFile(err)
	}
	if _, err := daemon.Compare(&was.Config, &is.Config); err != nil {
		return fmt.Errorf("what runs is not written to %s: it has what cannot have changed while it runs: %w", path, err)
	}
	return nil
}

// savedReport is what was saved as a person reads it.
type savedReport api.ConfigDiff

func (r *savedReport) print(w io.Writer) {
	if len(r.Differences) == 0 {
		fmt.Fprintf(w, "nothing to save: it is as %s says\n", r.File)
		return
	}
	printDifferences(w, r.Differences)
	fmt.Fprintf(w, "saved in %s; the file of before is %s%s\n", r.Path, r.Path, replacefile.BackupSuffix)
}
