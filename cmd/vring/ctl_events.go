package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// eventsOptions are the flags of "vring ctl events".
type eventsOptions struct {
	guest  string
	kinds  []string
	recent bool
}

func (c *ctl) eventsCommand() *cobra.Command {
	var o eventsOptions
	cmd := &cobra.Command{
		Use: "events [--guest GUEST] [--kind KIND]... [--recent]", Short: "Tell what happens, as it happens", Args: noArgs,
		Long: `Tell what happens, as it happens, until it is interrupted: front ends and drivers that come and go, what guests were denied, changes of
the configuration, and what has failed.

  vring ctl events
  vring ctl events --guest 10.0.2.15 --kind frontend --kind notice
  vring ctl events --recent -o json                 begin with those that are remembered; one line for each

Events of the whole process are told whatever the guest. The last events are remembered, about a thousand. Who does not read in time loses
some, and is told how many.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(c.checkEvents(), o.check()); err != nil {
				return err
			}
			return c.with(cmd, func(ctx context.Context, client *control.Client) error {
				return c.follow(ctx, client, &o, cmd.OutOrStdout())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.guest, "guest", "", "events of this guest and of the whole process only")
	f.StringArrayVar(&o.kinds, "kind", nil, "events of this kind only (repeatable): "+strings.Join(api.EventKinds(), ", "))
	f.BoolVar(&o.recent, "recent", false, "begin with the events that are remembered")
	_ = cmd.RegisterFlagCompletionFunc("guest", c.completeGuest) // there is that flag
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(api.EventKinds(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// checkEvents returns what is wrong with the flags that all verbs share.
func (c *ctl) checkEvents() error {
	if c.watch != 0 {
		return wrongUse(errors.New("--watch: events are told as they happen; leave it out"))
	}
	return c.check()
}

func (o *eventsOptions) check() error {
	for _, kind := range o.kinds {
		if !slices.Contains(api.EventKinds(), kind) {
			return wrongUse(fmt.Errorf("--kind %q: want one of %q", kind, api.EventKinds()))
		}
	}
	return nil
}

// wants reports whether an event is printed. One that tells of a loss always is.
func (o *eventsOptions) wants(e *api.Event) bool {
	return len(o.kinds) == 0 || e.Kind == api.EventLost || slices.Contains(o.kinds, e.Kind)
}

// follow prints events until ctx or the vring ends.
func (c *ctl) follow(ctx context.Context, client *control.Client, o *eventsOptions, w io.Writer) error {
	q := url.Values{}
	if o.guest != "" {
		guests, err := askGuests(ctx, client, []string{o.guest})
		if err != nil {
			return err
		}
		q.Set("guest", guests[0].Name)
	}
	if o.recent {
		q.Set("after", "0")
	}
	stopping := false
	err := client.Follow(ctx, "/v1/events?"+q.Encode(), func(e *api.Event) error {
		stopping = stopping || e.Kind == api.EventStopping
		if !o.wants(e) {
			return nil
		}
		return c.writeEvent(w, e)
	})
	switch {
	case ctx.Err() != nil, stopping:
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("the vring tells no more; has it ended?")
	}
	return err
}

// writeEvent prints an event in a line.
func (c *ctl) writeEvent(w io.Writer, e *api.Event) error {
	if c.output == outputJSON {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(e)
	}
	guest := e.Guest
	if guest == "" {
		guest = "-"
	}
	_, err := fmt.Fprintf(w, "%s  %-16s  %-13s  %s\n", timeOfDay(e.Time, time.TimeOnly), printable(guest), printable(e.Kind), eventText(e))
	return err
}

// timeOfDay writes a time of an answer as a clock of this host shows it, in a layout of package time. A text that is no time stays as it is.
func timeOfDay(text, layout string) string {
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return parsed.Local().Format(layout)
}

// eventText is what an event tells a person beside its kind.
func eventText(e *api.Event) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if e.FrontEnd != "" {
		add("%s", frontEndText(e.FrontEnd))
	}
	if e.Text != "" {
		text := printable(e.Text)
		if e.Key != "" {
			text += " " + printable(e.Key) + "=" + printable(e.Value)
		}
		parts = append(parts, text)
	}
	if e.Until != "" {
		add("until %s", e.Until)
	}
	if e.Lost > 0 {
		add("%d events were not read in time", e.Lost)
	}
	for _, list := range []struct {
		sign        string
		differences []api.Difference
	}{{"", e.Changed}, {"undone ", e.Undone}} {
		for _, d := range list.differences {
			parts = append(parts, differenceTexts(list.sign, &d)...)
		}
	}
	if e.ValuesLeftOut > 0 {
		add("and %d more", e.ValuesLeftOut)
	}
	for _, gap := range e.Gaps {
		add("closed for %v: %s", time.Duration(gap.Micros)*time.Microsecond, gap.Forward)
	}
	for _, forward := range e.LostForwards {
		add("lost: %s", forward)
	}
	if e.More > 0 {
		add("%d more like it", e.More)
	}
	return strings.Join(parts, "; ")
}

// frontEndText says how far a front end has come.
func frontEndText(stage string) string {
	switch stage {
	case "waiting":
		return "no front end"
	case "connected":
		return "a front end, and no driver"
	case "up":
		return "the guest's driver is up"
	}
	return printable(stage)
}

// differenceTexts are the values of a difference as a person reads them.
func differenceTexts(before string, d *api.Difference) (texts []string) {
	for _, v := range d.Removed {
		texts = append(texts, before+"- "+d.Key+": "+v)
	}
	for _, v := range d.Added {
		texts = append(texts, before+"+ "+d.Key+": "+v)
	}
	if d.Moved {
		texts = append(texts, before+"~ "+d.Key)
	}
	return texts
}

// printable is a text of a guest's as a terminal may get it: in quotes if it would do more than show it.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
