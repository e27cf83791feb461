package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// forwardCommand is "vring ctl forward".
func (c *ctl) forwardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "forward list|add|remove|replace", Short: "List or change forwards", Args: noVerb,
		Long: `List the forwards of guests, or change them while guests are served. A forward is written as with -p of vring nat, whose help has all
forms:
  vring ctl forward list
  vring ctl forward add 8080:80 udp:5353:53
  vring ctl forward add --guest 10.0.2.16 2222:22
  vring ctl forward remove 8080:80
  vring ctl forward replace 8080:8000             these, and no others

All forwards of one command change, or none. Connections by a forward that is removed go on. Without --guest, a forward leads to the
guest whose address it has, or to the first one.

In its sandbox, vring can have ports of the loopback from 1024 on, and what is like the forwards that it was started with.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.forwardListCommand(),
		c.forwardChange("add FORWARD...", "Add forwards", "Add forwards, which must not be there yet:\n  vring ctl forward add 8080:80 udp:5353:53",
			http.MethodPatch, func(all []api.Forward) any { return &api.ForwardChange{Add: all} }),
		c.forwardChange("remove FORWARD...", "Remove forwards", "Remove forwards, which must be there. Connections by them go on:\n  vring ctl forward remove 8080:80",
			http.MethodPatch, func(all []api.Forward) any { return &api.ForwardChange{Remove: all} }),
		c.forwardReplaceCommand())
	return cmd
}

func (c *ctl) forwardListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list [GUEST]", Short: "List the forwards of all guests, or of one", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `List the forwards of all guests, or of one. Each is written as -p of vring nat, and the other verbs, read it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				var all forwardsReport
				path, err := forwardsPath(ctx, client, args)
				if err != nil {
					return nil, err
				}
				return &all, client.Do(ctx, http.MethodGet, path, nil, &all)
			})
		},
	}
}

// forwardsPath is where the forwards of all guests are, or those of the one that is named.
func forwardsPath(ctx context.Context, client *control.Client, names []string) (string, error) {
	if len(names) == 0 {
		return "/v1/forwards", nil
	}
	guests, err := askGuests(ctx, client, names)
	if err != nil {
		return "", err
	}
	return control.GuestPath(guests[0].Name, "forwards", nil), nil
}

// forwardsReport is a list of forwards as a person reads it.
type forwardsReport []api.Forward

func (r forwardsReport) print(w io.Writer) {
	var rows [][]string
	for i := range r {
		rows = append(rows, []string{r[i].Guest, r[i].Text})
	}
	printTable(w, "GUEST\tFORWARD", rows)
}

// forwardChange is a verb that makes a request of forwards.
func (c *ctl) forwardChange(use, short, long, method string, question func([]api.Forward) any) *cobra.Command {
	var guest string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, ValidArgsFunction: c.completeForward,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse(fmt.Errorf("want a forward, as in %s 8080:80", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			all := []api.Forward{}
			for _, text := range args {
				all = append(all, api.Forward{Text: text})
			}
			return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
				path, err := forwardsPath(ctx, client, namesOf(guest))
				if err != nil {
					return err
				}
				return client.Do(ctx, method, path, question(all), r)
			})
		},
	}
	c.guestFlag(cmd, &guest, "guest that the forwards lead to")
	return cmd
}

// namesOf is a name as a list, or none.
func namesOf(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

func (c *ctl) forwardReplaceCommand() *cobra.Command {
	cmd := c.forwardChange("replace FORWARD...", "Replace all forwards, of all guests or of one", `Replace all forwards, of all guests or of one. Those that are the same before and after are not touched:
  vring ctl forward replace 8080:80 udp:5353:53
  vring ctl forward replace --guest 10.0.2.16 2222:22
  vring ctl forward replace --none                  remove all`,
		http.MethodPut, func(all []api.Forward) any { return all })
	none := cmd.Flags().Bool("none", false, "have no forward at all")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case *none && len(args) > 0:
			return wrongUse(fmt.Errorf("--none and forward %q exclude each other", args[0]))
		case !*none && len(args) == 0:
			return wrongUse(errors.New("want forwards, as in vring ctl forward replace 8080:80; --none removes all"))
		}
		return nil
	}
	return cmd
}

// completeForward completes the forwards that there are.
func (c *ctl) completeForward(cmd *cobra.Command, args []string, _ string) (texts []string, _ cobra.ShellCompDirective) {
	path, err := c.find()
	if err != nil || cmd.Name() == "add" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all []api.Forward
	if !ask(path, "/v1/forwards", &all) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, f := range all {
		if !slices.Contains(args, f.Text) {
			texts = append(texts, f.Text)
		}
	}
	return texts, cobra.ShellCompDirectiveNoFileComp
}
