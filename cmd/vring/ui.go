package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/cmd/vring/ui"
)

// newUI is "vring ui".
func newUI() *cobra.Command {
	c := ctl{output: outputTable}
	listen := "127.0.0.1:0"
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Show a vring that serves guests as a web page",
		Long: `Serve a web page that shows a vring that serves guests: guests and their network as a picture, their traffic, flows, counters, and
what happens. It can end flows, change forwards and rules, and download a capture. Open the address that is printed. Its token is another one
each time; a browser without it is refused. The page asks vring at its control socket, which is found as vring ctl finds it. Ctrl-C ends it.

  vring ui
  vring ui --listen 8000 --socket-path /tmp/vm0.sock

The page is on the loopback of this host. From another one, use ssh -L 8000:127.0.0.1:8000.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := parseListen(listen)
			if err := errors.Join(c.check(), err); err != nil {
				return err
			}
			path, err := c.find()
			if err != nil {
				return err
			}
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", at.String())
			if err != nil {
				return wrongUse(fmt.Errorf("--listen %s: %w", listen, err))
			}
			server, err := ui.New(listener, path, ui.NewToken())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), server.URL())
			return server.Serve(cmd.Context())
		},
	}
	c.places(cmd.Flags())
	cmd.Flags().StringVar(&listen, "listen", listen, "[ADDRESS:]PORT of the page, on the loopback; port 0 is any that is free")
	completeFlags(cmd)
	return cmd
}

// parseListen reads where the page is to be.
func parseListen(text string) (netip.AddrPort, error) {
	full := text
	if _, err := strconv.ParseUint(text, 10, 16); err == nil {
		full = "127.0.0.1:" + text
	}
	at, err := netip.ParseAddrPort(strings.Replace(full, "localhost:", "127.0.0.1:", 1))
	switch {
	case err != nil:
		return at, wrongUse(fmt.Errorf("--listen %q: want [ADDRESS:]PORT, as in 8000 or 127.0.0.1:8000", text))
	case !at.Addr().IsLoopback():
		return at, wrongUse(fmt.Errorf("--listen %s: the page is not encrypted, so it is on the loopback only, as in 127.0.0.1:%d; "+
			"from another host use ssh -L %[2]d:127.0.0.1:%[2]d", text, at.Port()))
	}
	return at, nil
}
