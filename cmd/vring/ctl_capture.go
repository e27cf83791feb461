package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/netbackend/capture/filter"
)

// standardOutput is what --write calls it.
const standardOutput = "-"

// captureFlags are the flags of "vring ctl capture".
type captureFlags struct {
	file     string
	snapLen  int
	gso      string
	count    uint64
	duration time.Duration
	flow     string
	ring     int
	ringSize string
}

func (c *ctl) captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use: "capture GUEST [FILTER...]", Short: "Write the frames of a guest to a file, or into Wireshark", Args: captureArgs, ValidArgsFunction: c.completeGuest,
		Long: `Write the frames of a guest as they pass, in both directions, in the format pcapng: to a file, or to standard output. Traffic goes on
meanwhile as if nobody looked: what is not read in time is missed, and counted. It ends with Ctrl-C, and says how many frames
were captured and missed.

  vring ctl capture 10.0.2.15 -w vm.pcapng
  vring ctl capture 10.0.2.15 tcp port 80 and host 192.0.2.34 | wireshark -k -i -
  vring ctl capture 10.0.2.15 --snaplen 128 | tcpdump -nr -
  vring ctl capture 10.0.2.15 -w vm.pcapng --ring 10 --ring-size 64M     the last ten files

A filter is in a part of tcpdump's language. What is not in that part is refused, and nothing is looked up: hosts are addresses, and ports are
numbers. A flow is named as vring ctl flows prints it: --flow "tcp 10.0.2.15:40000 192.0.2.34:443".

A frame that stands for many segments (TSO) is one packet, as it is for the guest, unless --gso cut cuts it into those that a wire would
carry.`,
		RunE: func(cmd *cobra.Command, args []string) error { return c.runCapture(cmd, &f, args) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "write", "w", standardOutput, "file to write, which is replaced; - is standard output")
	flags.IntVar(&f.snapLen, "snaplen", 0, "how many bytes of each frame at most (default: all)")
	flags.StringVar(&f.gso, "gso", "whole", "frames that stand for many segments: whole or cut")
	flags.Uint64Var(&f.count, "count", 0, "end after so many packets")
	flags.DurationVar(&f.duration, "duration", 0, "end after this time, as in 30s")
	flags.StringVar(&f.flow, "flow", "", `only this flow: "PROTO GUEST-ADDRESS:PORT REMOTE-ADDRESS:PORT"`)
	flags.IntVar(&f.ring, "ring", 0, "write so many files one after the other, over and over: FILE-00001, FILE-00002 and so on")
	flags.StringVar(&f.ringSize, "ring-size", "64M", "how large each file of --ring becomes at most: bytes, or with K, M or G")
	flags.BoolVar(new(bool), "watch", false, "means nothing here: a capture goes on anyway") // its letter is that of --write, as in tcpdump
	_ = flags.MarkHidden("watch")                                                            // there is that flag
	_ = cmd.RegisterFlagCompletionFunc("gso", cobra.FixedCompletions([]string{"whole", "cut"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// captureArgs wants the name of a guest; a filter may follow.
func captureArgs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return wrongUse(errors.New("which guest? vring ctl guests lists them"))
	}
	return nil
}

// query returns what is captured, as the control socket reads it.
func (f *captureFlags) query(words []string) (url.Values, error) {
	q := url.Values{"gso": {f.gso}}
	text := strings.Join(words, " ")
	if f.flow != "" {
		flow, err := flowFilter(f.flow)
		if err != nil {
			return nil, err
		}
		if text = strings.TrimSpace(text); text != "" {
			flow += " and (" + text + ")"
		}
		text = flow
	}
	if _, err := filter.Parse(text); err != nil { // before anything is opened
		return nil, err
	}
	if text != "" {
		q.Set("filter", text)
	}
	if f.snapLen != 0 {
		q.Set("snaplen", strconv.Itoa(f.snapLen))
	}
	if f.count != 0 {
		q.Set("count", strconv.FormatUint(f.count, 10))
	}
	if f.duration != 0 {
		q.Set("duration", f.duration.String())
	}
	return q, nil
}

// flowFilter is the filter of a flow.
func flowFilter(text string) (string, error) {
	words := strings.Fields(text)
	wrong := fmt.Errorf(`--flow %q: want it as vring ctl flows prints it, as in "tcp 10.0.2.15:40000 192.0.2.34:443"`, text)
	if len(words) != 3 || (words[0] != "tcp" && words[0] != "udp") {
		return "", wrong
	}
	guest, err1 := netip.ParseAddrPort(words[1])
	remote, err2 := netip.ParseAddrPort(words[2])
	if err1 != nil || err2 != nil {
		return "", wrong
	}
	end := func(way string, at netip.AddrPort) string {
		return fmt.Sprintf("%s host %v and %s %s port %d", way, at.Addr(), words[0], way, at.Port())
	}
	return fmt.Sprintf("((%s and %s) or (%s and %s))", end("src", guest), end("dst", remote), end("src", remote), end("dst", guest)), nil
}

// check returns what is wrong with where the capture is to go.
func (f *captureFlags) check(stdout io.Writer) error {
	size, err := parseSize(f.ringSize)
	var faults []error
	if err != nil || size < minRingSize {
		faults = append(faults, fmt.Errorf("--ring-size %q: want at least 64K bytes, as in 64M", f.ringSize))
	}
	if f.ring < 0 || f.ring == 1 || f.ring > maxRing {
		faults = append(faults, fmt.Errorf("--ring %d: want 2 to %d files", f.ring, maxRing))
	}
	if f.ring > 0 && f.file == standardOutput {
		faults = append(faults, errors.New("--ring: want the name of the files, by -w FILE"))
	}
	if f.file == standardOutput && isTerminal(stdout) {
		faults = append(faults, errors.New("a capture is nothing for a terminal; write a file with -w FILE, or pipe it into wireshark -k -i - or tcpdump -nr -"))
	}
	return wrongUse(faults...)
}

// sink opens where the capture goes.
func (f *captureFlags) sink(stdout io.Writer) (captureSink, error) {
	switch {
	case f.ring > 0:
		size, _ := parseSize(f.ringSize) // check has read it
		return newRingSink(f.file, f.ring, size), nil
	case f.file != standardOutput:
		return newFileSink(f.file)
	}
	return &fileSink{to: stdout, close: func() error { return nil }}, nil
}

// runCapture captures until the server or the user ends it.
func (c *ctl) runCapture(cmd *cobra.Command, f *captureFlags, args []string) error {
	q, err := f.query(args[1:])
	if err := wrongUse(c.checkCapture(cmd), err, f.check(cmd.OutOrStdout())); err != nil {
		return err
	}
	return c.with(cmd, func(ctx context.Context, client *control.Client) error {
		guests, err := askGuests(ctx, client, args[:1])
		if err != nil {
			return err
		}
		stream, err := client.Stream(ctx, control.GuestPath(guests[0].Name, "capture", q))
		if err != nil {
			return err
		}
		defer stream.Close()
		defer context.AfterFunc(ctx, func() { _ = stream.Stop() })()
		to, err := f.sink(cmd.OutOrStdout())
		if err != nil {
			return err
		}
		counts, err := copyCapture(to, stream)
		fmt.Fprintf(cmd.ErrOrStderr(), "%d packets captured, %d missed\n", counts.packets, counts.missed())
		return errors.Join(err, to.Close())
	})
}

// checkCapture returns what is wrong with the flags of all verbs.
func (c *ctl) checkCapture(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("watch"):
		return errors.New("--watch: a capture goes on anyway; leave it out")
	case cmd.Flags().Changed("output"):
		return errors.New("--output: a capture has a format of its own; -w FILE says where it goes")
	}
	return c.check()
}
