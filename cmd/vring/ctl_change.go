package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// change prints what a request has changed.
func (c *ctl) change(cmd *cobra.Command, ask func(context.Context, *control.Client, *changedReport) error) error {
	if err := c.checkOnce(); err != nil {
		return err
	}
	return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
		r := new(changedReport)
		return r, ask(ctx, client, r)
	})
}

// changedReport is what was changed as a person reads it.
type changedReport api.Changed

func (r *changedReport) print(w io.Writer) {
	if len(r.Changed) == 0 {
		fmt.Fprintln(w, "nothing has changed: it was so already")
	}
	printDifferences(w, r.Changed)
	for _, gap := range r.Gaps {
		fmt.Fprintf(w, "closed for %v, since another one needed its place: %s\n", time.Duration(gap.Micros)*time.Microsecond, gap.Forward)
	}
	for _, guest := range r.Waiting {
		fmt.Fprintf(w, "guest %s has not answered yet; the change is made before it handles a frame again\n", guest)
	}
	printNotKept(w, r.NotKept)
	if len(r.Undone) > 0 {
		fmt.Fprintln(w, "what was changed here goes back, since the file says otherwise:")
		printDifferences(w, r.Undone)
	}
}

// printNotKept tells why a change is not in the file of the state, "" if it is.
func printNotKept(w io.Writer, why string) {
	if why != "" {
		fmt.Fprintf(w, "this is lost if vring ends now, since it is not kept: %s\n", why)
	}
}

// printDifferences prints a line for each value: those that are there now have a plus.
func printDifferences(w io.Writer, all []api.Difference) {
	for _, d := range all {
		for _, v := range d.Removed {
			fmt.Fprintf(w, "- %s: %s\n", d.Key, v)
		}
		for _, v := range d.Added {
			fmt.Fprintf(w, "+ %s: %s\n", d.Key, v)
		}
		if d.Moved {
			fmt.Fprintf(w, "~ %s: in another order\n", d.Key)
		}
	}
}

// policyCommand is "vring ctl policy".
func (c *ctl) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy show|replace", Short: "Tell or replace where guests may go", Args: noVerb,
		Long: `Tell or replace where guests may go, while they are served:
  vring ctl policy show
  vring ctl policy replace --allow 192.168.1.7:443 --deny 192.168.0.0/16
  vring ctl policy replace --restrict --allow tcp:192.0.2.0/24:443 --allow-host tcp:5432

It is replaced as a whole. What is open is judged by the new policy at once: a connection that it closes ends, and all others go on.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.policyShowCommand(), c.policyReplaceCommand())
	return cmd
}

func (c *ctl) policyShowCommand() *cobra.Command {
	var guest string
	cmd := &cobra.Command{
		Use: "show", Short: "Tell where guests may go", Args: noArgs,
		Long: `Tell where guests may go: the services of the host that are open to them, and the rules in their order, of which the first that
matches decides. vring nat --help has all of the order of evaluation. Without --guest it is what guests have that share a network.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				p := new(policyReport)
				path, err := policyPath(ctx, client, guest, nil)
				if err != nil {
					return nil, err
				}
				return p, client.Do(ctx, http.MethodGet, path, nil, p)
			})
		},
	}
	c.guestFlag(cmd, &guest, "guest whose policy is meant, if it has a network of its own")
	return cmd
}

// policyPath is where the policy is that guests share, or that of the one that is named.
func policyPath(ctx context.Context, client *control.Client, guest string, q url.Values) (string, error) {
	if guest == "" {
		if len(q) > 0 {
			return "/v1/policy?" + q.Encode(), nil
		}
		return "/v1/policy", nil
	}
	guests, err := askGuests(ctx, client, []string{guest})
	if err != nil {
		return "", err
	}
	return control.GuestPath(guests[0].Name, "policy", q), nil
}

// guestFlag adds the flag that names a guest.
func (c *ctl) guestFlag(cmd *cobra.Command, guest *string, usage string) {
	cmd.Flags().StringVar(guest, "guest", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("guest", func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return c.completeGuest(cmd, nil, begun)
	}) // there is that flag
}

// policyReport is a policy as a person reads it.
type policyReport api.Policy

func (p *policyReport) print(w io.Writer) {
	var rows [][]string
	for _, s := range p.AllowHost {
		rows = append(rows, []string{"-", "allow-host", s, "-", "-", "-", "-"})
	}
	for _, r := range p.Redirects {
		rows = append(rows, []string{"-", "redirect", r, "-", "-", "-", "-"})
	}
	for i, r := range p.Rules {
		for _, of := range [][]string{{"allow", r.Allow}, {"deny", r.Deny}, {"allow-name", r.AllowName}, {"deny-name", r.DenyName}} {
			if of[1] != "" {
				to, way := splitWay(of[1])
				rows = append(rows, slices.Concat([]string{fmt.Sprint(i + 1), of[0], to}, p.hits(i), []string{cmp.Or(way, "-")}))
			}
		}
	}
	rest := "everything but the host's own services and link-local addresses is open"
	if p.Restrict {
		rest = "closed (restrict)"
	}
	usual := ""
	if p.Way != nil {
		usual = *p.Way
	}
	last := slices.Concat([]string{"last", "otherwise", rest}, p.hits(len(p.Rules)), []string{cmp.Or(usual, "-")})
	printTable(w, "RULE\tVERDICT\tDESTINATION\tBEGUN\tDENIED\tBYTES\tWAY", append(rows, last))
}

// splitWay divides the text of a rule into what it is about, and how that leaves the host.
func splitWay(rule string) (to, way string) {
	var about, ways []string
	for part := range strings.SplitSeq(rule, ";") {
		key, value, _ := strings.Cut(part, "=")
		if isWay, _ := new(spec.Way).Take(key, value); isWay {
			ways = append(ways, part)
			continue
		}
		about = append(about, part)
	}
	return strings.Join(about, ";"), strings.Join(ways, ";")
}

// hits are what was counted for a rule, counted from 0, behind which comes what no rule decides.
func (p *policyReport) hits(rule int) []string {
	if rule >= len(p.Hits) {
		return []string{"-", "-", "-"}
	}
	h := &p.Hits[rule]
	return []string{fmt.Sprint(h.Begun), fmt.Sprint(h.Denied), fmt.Sprint(h.FromGuest + h.ToGuest)}
}

func (c *ctl) policyReplaceCommand() *cobra.Command {
	p := api.Policy{Rules: []api.Rule{}, AllowHost: []string{}, Redirects: []string{}}
	var rules ruleTexts
	var keep bool
	var guest string
	var groups []string
	var way wayFlags
	cmd := &cobra.Command{
		Use: "replace [--allow RULE]... [--deny RULE]... [--allow-name RULE]... [--deny-name RULE]... [--restrict] [--allow-host SERVICE]... [--redirect FROM=TO]... [--via PROXY] [--outbound-interface NAME] [--outbound-address ADDRESS]... [--keep-established]", Short: "Replace where guests may go", Args: noArgs,
		Long: `Replace where guests may go, by flags as those of vring nat: what is not given is not there any more.
  vring ctl policy replace --allow 192.168.1.7:443 --deny 192.168.0.0/16
  vring ctl policy replace --restrict --allow tcp:192.0.2.0/24:443 --allow-host tcp:5432
  vring ctl policy replace --restrict --allow-name '*.debian.org:80,443' --name-group work=names.txt --allow-name @work:443
  vring ctl policy replace --restrict --allow-name '*.debian.org:80,443' --via socks5://192.0.2.1:1080
  vring ctl policy replace --restrict=false         no rules and no services: what a guest may reach by default

How packets leave the host stays without --via and the --outbound options; with one of them, those that are not given are not there any more, and
an empty one, as in --via '', leaves none. Open connections go on by their way.

All of it is adopted, or nothing. Connections that are open and that the new policy closes end at once. With --keep-established they
go on, until another policy is adopted or their destination becomes the host's own.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.ContainsFunc(append(wayOptions(), "allow", "deny", "allow-name", "deny-name", "restrict", "allow-host", "redirect"), cmd.Flags().Changed) {
				return wrongUse(errors.New("no policy is given; write --allow, --deny, --allow-name, --deny-name, --restrict, --allow-host or --redirect, or --restrict=false to remove all rules and services"))
			}
			if slices.ContainsFunc(wayOptions(), cmd.Flags().Changed) {
				var n daemon.NAT
				if err := way.parse(&n); err != nil {
					return wrongUse(err)
				}
				leaves := n.Way()
				text := leaves.Text()
				p.Way = &text
			}
			for _, r := range rules {
				p.Rules = append(p.Rules, r.api())
			}
			for _, text := range groups {
				g, err := parseNameGroup(text)
				if err != nil {
					return wrongUse(err)
				}
				p.NameGroups = append(p.NameGroups, g.String())
			}
			return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
				q := url.Values{}
				if keep {
					q.Set("keep-established", "true")
				}
				path, err := policyPath(ctx, client, guest, q)
				if err != nil {
					return err
				}
				return client.Do(ctx, http.MethodPut, path, &p, r)
			})
		},
	}
	f := cmd.Flags()
	rules.add(f)
	f.BoolVar(&p.Restrict, "restrict", false, "close everything that --allow and --allow-host do not open")
	f.StringArrayVar(&p.AllowHost, "allow-host", []string{}, "open a service of the host to guests (repeatable)")
	f.StringArrayVar(&p.Redirects, "redirect", []string{}, "lead what guests send to a destination to another one (repeatable)")
	way.add(f)
	f.StringArrayVar(&groups, "name-group", nil, "names that rules name together: GROUP=FILE, with one name a line; without this option groups stay (repeatable)")
	f.StringVar(&p.RefuseNames, "refuse-names", "", "what guests are told of names that rules refuse: refused or nxdomain; without this option it stays")
	c.guestFlag(cmd, &guest, "guest whose policy is replaced, if it has a network of its own")
	f.BoolVar(&keep, "keep-established", false, "let connections go on that the new policy closes to others")
	return cmd
}

func (c *ctl) logLevelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "log-level [LEVEL]", Short: "Tell or set the lowest level that is logged", ValidArgs: daemon.LogLevels(),
		Long: `Tell the lowest level that is logged, or set it: debug, info, warn or error.
  vring ctl log-level debug`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return wrongUse(fmt.Errorf("unexpected %q; want one level at most", args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
					return client.Do(ctx, http.MethodPut, "/v1/log-level", api.LogLevel{Level: args[0]}, r)
				})
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				l := new(levelReport)
				return l, client.Do(ctx, http.MethodGet, "/v1/log-level", nil, l)
			})
		},
	}
}

// levelReport is a level of the log as a person reads it.
type levelReport api.LogLevel

func (l *levelReport) print(w io.Writer) { fmt.Fprintln(w, l.Level) }

func (c *ctl) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Let vring serve read its configuration file again", Args: noArgs,
		Long: `Let vring serve read its configuration file again, as SIGHUP does. It adopts all that has changed, or nothing. What is wrong with
the file is told with line and column. What was changed by vring ctl, and is not in the file, goes back, and is told.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
				return client.Do(ctx, http.MethodPost, "/v1/reload", nil, r)
			})
		},
	}
}

// configCommand is "vring ctl config".
func (c *ctl) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config show|diff|save", Short: "Tell the configuration as it is now, or save it", Args: noVerb,
		Long: `Tell the configuration as it is now, and in what it differs from the configuration file, or write it there:
  vring ctl config show > vm0.yaml       keep what was changed by vring ctl
  vring ctl config diff                  what would go back with vring ctl reload
  vring ctl config save                  write it to the file`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "show", Short: "Print the configuration as it is now, as a file of vring serve", Args: noArgs,
		Long: `Print the configuration as it is now, as a file of vring serve. What is by default is left out; vring config print shows it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := new(configReport)
				return r, client.Do(ctx, http.MethodGet, "/v1/config", nil, &r.text)
			})
		},
	}, &cobra.Command{
		Use: "diff", Short: "Tell in what it differs from the file", Args: noArgs,
		Long: `Tell in what the configuration as it is now differs from the file of vring serve as it is now, or from the flags of the start. A plus
is what is so now, and a minus what the file has instead.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := new(diffReport)
				return r, client.Do(ctx, http.MethodGet, "/v1/config/diff", nil, r)
			})
		},
	}, c.configSaveCommand())
	return cmd
}

// configReport is a configuration as a file.
type configReport struct{ text control.Text }

// MarshalJSON implements json.Marshaler.
func (r *configReport) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"yaml": string(r.text)})
}

func (r *configReport) print(w io.Writer) { _, _ = w.Write(r.text) }

// diffReport is the difference to a file as a person reads it.
type diffReport api.ConfigDiff

func (r *diffReport) print(w io.Writer) {
	is, beside := r.File+" says", r.File
	if r.File == "" {
		is, beside = "the flags of the start say", "the flags of the start"
	}
	if len(r.Differences) == 0 {
		fmt.Fprintf(w, "it is as %s\n", is)
		return
	}
	fmt.Fprintf(w, "now, beside %s:\n", beside)
	printDifferences(w, r.Differences)
	if r.State != "" {
		fmt.Fprintf(w, "kept for the next start in %s\n", r.State)
	}
}
