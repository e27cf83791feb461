package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// auditPath is where the audit log is.
const auditPath = "/v1/audit-log"

// auditCommand is "vring ctl audit".
func (c *ctl) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit show|on|off|to|reopen", Short: "Tell how the audit log stands, or change it", Args: noVerb,
		Long: `Tell how the audit log stands, stop it for a while, let it go on in another file, or open its file again:
  vring ctl audit show
  vring ctl audit off
  vring ctl audit to /var/log/vring/audit-2.jsonl
  vring ctl audit reopen                         for logrotate: see docs/audit.md
There is one if vring was started with --audit-log.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Tell how the audit log stands", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
					r := new(auditReport)
					return r, client.Do(ctx, http.MethodGet, auditPath, nil, r)
				})
			},
		},
		c.auditSwitch("on", "Add lines to the audit log again", true), c.auditSwitch("off", "Add no line to the audit log for now", false),
		&cobra.Command{
			Use: "to FILE", Short: "Let the audit log go on in another file", Args: wants("file", "as in vring ctl audit to /var/log/vring/audit-2.jsonl"),
			Long: `Let the audit log go on in another file. It is in the directory of the file of the start, and its name begins and ends alike, as that of
audit-2.jsonl beside audit.jsonl. Lines are added to a file that there is.`,
			RunE: func(cmd *cobra.Command, args []string) error {
				return c.changeAudit(cmd, api.AuditLogChange{Path: args[0]})
			},
		},
		&cobra.Command{
			Use: "reopen", Short: "Open the file of the audit log again", Args: noArgs,
			Long: `Open the file of the audit log again, which a program such as logrotate has given another name: a new one is made in its place.
vring serve does so with SIGHUP, too.`,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if err := c.checkOnce(); err != nil {
					return err
				}
				return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
					r := new(auditReport)
					return r, client.Do(ctx, http.MethodPost, auditPath+"/reopened", nil, r)
				})
			},
		},
	)
	return cmd
}

// auditSwitch is a verb that stops the audit log, or resumes it.
func (c *ctl) auditSwitch(verb, short string, on bool) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.changeAudit(cmd, api.AuditLogChange{On: &on}) },
	}
}

func (c *ctl) changeAudit(cmd *cobra.Command, to api.AuditLogChange) error {
	return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
		return client.Do(ctx, http.MethodPut, auditPath, to, r)
	})
}

// wants returns what is wrong with arguments that are not one.
func wants(what, example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 1 && args[0] != "" {
			return nil
		}
		return wrongUse(fmt.Errorf("want one %s, %s; there are %d arguments", what, example, len(args)))
	}
}

// auditReport is how the audit log stands as a person reads it.
type auditReport api.AuditLog

func (r *auditReport) print(w io.Writer) {
	state := map[bool]string{true: "on", false: "off"}[r.On]
	if r.Fails {
		state += ", cannot be written"
	}
	if r.Path == "" {
		state = "none"
	}
	printTable(w, "FILE\tSTATE\tBYTES", [][]string{{cmp.Or(printable(r.Path), "-"), state, fmt.Sprint(r.Bytes)}})
}

func (c *ctl) learnedCommand() *cobra.Command {
	return &cobra.Command{
		Use: "learned [GUEST]", Short: "List the rules that would have sufficed for guests so far", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `List what a vring with --learn has learned so far: the rules that would have sufficed for what all guests did, or one, and the names that they asked
for without a connection that followed. Guests that share a network have the same rules. The file of --learn has them within a minute.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := learnedReport{}
				err := ofGuests(ctx, client, args, "learned", nil, func(guest string, answer *api.Learned) {
					r = append(r, guestLearned{guest, *answer})
				})
				if err == nil && len(r) == 0 {
					err = wrongUse(errNothingLearned)
				}
				return r, err
			})
		},
	}
}

// errNothingLearned is that no guest has anything to tell.
var errNothingLearned = errors.New("nothing is learned; vring nat --learn FILE does, from the start")

// guestLearned is what was learned of a guest.
type guestLearned struct {
	Guest string `json:"guest_name"`
	api.Learned
}

// learnedReport is what was learned as a person reads it.
type learnedReport []guestLearned

func (r learnedReport) print(w io.Writer) {
	var rows [][]string
	for i := range r {
		g := &r[i]
		for _, l := range g.Rules {
			rows = append(rows, []string{g.Guest, printable(l.Rule), fmt.Sprint(l.Count), l.First, l.Last, cmp.Or(printable(l.Note), "-")})
		}
		for _, a := range g.Asked {
			rows = append(rows, []string{g.Guest, "(asked for) " + printable(a.Name), fmt.Sprint(a.Count), a.First, a.Last, "-"})
		}
	}
	printTable(w, "GUEST\tRULE\tUSES\tFIRST\tLAST\tCALLED", rows)
	for i := range r {
		if l := &r[i]; l.Telling > 0 || l.LeftOut+l.Lost > 0 {
			fmt.Fprintf(w, "guest %s: %d connections have yet to tell their server, %d connections or names had no room, %d were not seen\n", l.Guest, l.Telling, l.LeftOut, l.Lost)
		}
	}
}
