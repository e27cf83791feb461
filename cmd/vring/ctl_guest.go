package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/regularfile"
)

// guestCommand is "vring ctl guest".
func (c *ctl) guestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "guest add|remove", Short: "Add or remove a guest", Args: noVerb,
		Long: `Add a guest that has a network of its own, or remove one, while others are served. They are not disturbed.
  vring ctl guest add vm1.yaml
  vring ctl guest remove vm1

vring ctl guests lists those that there are.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.guestAddCommand(), c.guestRemoveCommand())
	return cmd
}

func (c *ctl) guestAddCommand() *cobra.Command {
	return &cobra.Command{
		Use: "add FILE|-", Short: "Add a guest as a file says", Args: oneGuestFile, ValidArgsFunction: completeFile,
		Long: `Add the guest that a file describes, or standard input for "-": as below guests in a file of vring serve, with a network of its own. A whole one:
  name: vm1
  socket-path: /run/vring/vm1.sock
  nat:
    forwards:
      - 2222:22

Its socket is made beside that of another guest, if not everybody may make files there, as in /tmp. In its sandbox, vring can open what guests of
the start have: a NAT if one of them is behind NAT, and a port of a switch or a stub in any case, but no TAP device.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readGuest(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
				return client.Do(ctx, http.MethodPost, "/v1/guests", text, r)
			})
		},
	}
}

// oneGuestFile wants the name of a file.
func oneGuestFile(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && args[0] != "" {
		return nil
	}
	return wrongUse(fmt.Errorf("want a file that describes one guest, or - for standard input, as in %s vm1.yaml; there are %d arguments", cmd.CommandPath(), len(args)))
}

// readGuest reads the file of a guest, which must be right, and returns it as JSON.
func readGuest(stdin io.Reader, path string) (json.RawMessage, error) {
	text, err := readFileOr(stdin, path)
	if err != nil {
		return nil, wrongUse(err)
	}
	if _, err := configfile.ParseGuest(path, text); err != nil {
		return nil, wrongFile(err)
	}
	text, err = yaml.YAMLToJSON(text)
	if err != nil {
		return nil, wrongUse(fmt.Errorf("%s: %w", path, err))
	}
	return text, nil
}

// readFileOr reads a file, or standard input for "-".
func readFileOr(stdin io.Reader, path string) ([]byte, error) {
	if path != "-" {
		return regularfile.Read(path, daemon.MaxConfigFile)
	}
	text, err := io.ReadAll(io.LimitReader(stdin, daemon.MaxConfigFile+1))
	if err == nil && len(text) > daemon.MaxConfigFile {
		err = errors.New("standard input is too long for a guest")
	}
	return text, err
}

func (c *ctl) guestRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove GUEST", Short: "Remove a guest", ValidArgsFunction: c.completeGuest,
		Long: `Remove a guest that has a network of its own: its front end is cut off, its connections end, and its forwards and its socket are gone.
  vring ctl guest remove vm1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return wrongUse(errors.New("which guest? vring ctl guests lists them"))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
				guests, err := askGuests(ctx, client, args)
				if err != nil {
					return err
				}
				return client.Do(ctx, http.MethodDelete, control.GuestPath(guests[0].Name, "", nil), nil, r)
			})
		},
	}
}
