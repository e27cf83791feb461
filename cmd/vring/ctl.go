package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// ctl has the flags of "vring ctl", which all of its verbs share.
type ctl struct {
	control    string
	socketPath string
	output     string
	watch      time.Duration
}

// Values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// newCtl is "vring ctl".
func newCtl() *cobra.Command {
	var c ctl
	cmd := &cobra.Command{
		Use:   "ctl VERB",
		Short: "Watch and change a vring that serves guests",
		Long: `Ask a vring that serves guests how it is, and change it, at its control socket. Only the user who runs that vring, and root, may do so.

The socket is found by itself if this user runs just one vring whose socket is in a usual place: the directory
$XDG_RUNTIME_DIR, /run/vring or /tmp. Otherwise name it:
  vring ctl --control /tmp/vm0.sock.ctl status
  vring ctl --socket-path /tmp/vm0.sock status      by the socket of a guest

Watch it:
  vring ctl status --watch                          again each second
  vring ctl counters 10.0.2.15 --watch=5s           what one guest has counted, and how fast
  vring ctl guests -o json                          for programs
  vring ctl events                                  what happens, as it happens
  vring ctl capture 10.0.2.15 -w vm.pcapng          the frames of a guest

Connect to a guest, without a forward:
  vring ctl connect 10.0.2.15:22

Change it, while guests are served and their connections go on:
  vring ctl forward add 8080:80
  vring ctl policy replace --deny 192.168.0.0/16
  vring ctl guest add vm1.yaml
  vring ctl log-level debug
  vring ctl reload                                  read the file of vring serve again
  vring ctl config diff                             what differs from that file
What was changed is gone when vring is started again, and goes back with a reload, unless the file has it, too.

The same is there for programs without vring ctl, as HTTP and JSON:
  curl --unix-socket /tmp/vm0.sock.ctl http://vring/v1/status`,
		Args: noVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	flags := cmd.PersistentFlags()
	c.places(flags)
	flags.StringVarP(&c.output, "output", "o", outputTable, "what is printed: table or json")
	flags.DurationVarP(&c.watch, "watch", "w", 0, "print again and again, after this time (verbs that change nothing; without a value: 1s)")
	flags.Lookup("watch").NoOptDefVal = "1s"
	cmd.AddCommand(c.statusCommand(), c.guestsCommand(), c.eventsCommand(), c.countersCommand(), c.linkCommand(), c.connectCommand(), c.flowsCommand(), c.explainCommand(), c.whyCommand(), c.leasesCommand(), c.uplinksCommand(),
		c.resolversCommand(), c.dnsCommand(), c.forwardCommand(), c.guestCommand(), c.captureCommand(), c.policyCommand(), c.logLevelCommand(), c.auditCommand(), c.learnedCommand(), c.reloadCommand(), c.configCommand(),
		c.drainCommand(), c.stopCommand())
	for _, verb := range withThoseBelow(cmd) {
		verb.SuggestionsMinimumDistance = cmd.SuggestionsMinimumDistance
		completeFlags(verb)
	}
	return cmd
}

// places adds the flags that say which vring is meant.
func (c *ctl) places(flags *pflag.FlagSet) {
	flags.StringVar(&c.control, "control", "", "control socket of the vring that is meant")
	flags.StringVar(&c.socketPath, "socket-path", "", "socket of a guest of the vring that is meant, instead of --control")
}

// noVerb tells what verbs there are.
func noVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := nearCommand(cmd, args[0]); near != "" {
		return wrongUse(fmt.Errorf("unexpected %q; did you mean %s %s?", args[0], cmd.CommandPath(), near))
	}
	return wrongUse(fmt.Errorf("unexpected %q; %s --help tells the verbs", args[0], cmd.CommandPath()))
}

// report is what a verb prints: as a table by print, or itself as JSON.
type report interface {
	print(w io.Writer)
}

// show prints what is asked for, once or again and again.
func (c *ctl) show(cmd *cobra.Command, ask func(context.Context, *control.Client) (report, error)) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.with(cmd, func(ctx context.Context, client *control.Client) error {
		for {
			r, err := ask(ctx, client)
			if err != nil {
				return err
			}
			if err := c.write(cmd.OutOrStdout(), r); err != nil {
				return err
			}
			if c.watch == 0 || !sleep(ctx, c.watch) {
				return nil
			}
		}
	})
}

// sleep reports whether ctx goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// check returns what is wrong with the flags.
func (c *ctl) check() error {
	var faults []error
	if c.output != outputTable && c.output != outputJSON {
		faults = append(faults, fmt.Errorf("--output %q: want table or json", c.output))
	}
	if c.watch < 0 {
		faults = append(faults, fmt.Errorf("--watch %v: want a time above 0, as in 2s", c.watch))
	}
	if c.control != "" && c.socketPath != "" {
		faults = append(faults, errors.New("--control and --socket-path exclude each other"))
	}
	return wrongUse(faults...)
}

// with calls do with a client of the control socket that is meant, and tells what went wrong.
func (c *ctl) with(cmd *cobra.Command, do func(context.Context, *control.Client) error) error {
	path, err := c.find()
	if err != nil {
		return err
	}
	client := control.NewClient(path)
	defer client.Close()
	return explain(path, do(cmd.Context(), client))
}

// explain adds to an error what to do.
func explain(path string, err error) error {
	refused := new(control.RefusedError)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("no vring answers at %s (%w); is it running, and with this path of --control?", path, err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("this user may not connect to %s; use the user who runs that vring, or root", path)
	case errors.As(err, &refused):
		return refusal(refused)
	}
	return err
}

// refusal is what a vring has against a request. What the user can write otherwise is a wrong use.
func refusal(r *control.RefusedError) error {
	var faults []error
	for i := range r.Reason.Faults {
		faults = append(faults, faultOf(&r.Reason.Faults[i]))
	}
	if len(faults) == 0 {
		faults = []error{r}
	}
	for _, forward := range r.Reason.Lost {
		faults = append(faults, fmt.Errorf("forward %s is lost: it made room in vain, and another program has its place now; add it again when that is over", forward))
	}
	if slices.Contains([]int{http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity}, r.Status) {
		return wrongUse(faults...)
	}
	return errors.Join(faults...)
}

// faultOf is a fault with its place in a file, if it has one.
func faultOf(f *api.Fault) error {
	if f.File == "" {
		return errors.New(f.Text)
	}
	return &configfile.Fault{File: f.File, Line: f.Line, Column: f.Column, Message: f.Text}
}

// write prints a report. On a terminal the next one takes its place.
func (c *ctl) write(w io.Writer, r report) error {
	if c.output == outputJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		if c.watch == 0 {
			encoder.SetIndent("", "  ")
		}
		return encoder.Encode(r)
	}
	if c.watch != 0 && isTerminal(w) {
		const home, clear = "\x1b[H", "\x1b[2J"
		_, _ = io.WriteString(w, home+clear)
	}
	r.print(w)
	return nil
}

// isTerminal reports whether an input or output is a terminal, at which a person sits.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// printTable prints rows in columns, the first of them as a heading.
func printTable(w io.Writer, heading string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, heading)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, cell)
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
}
