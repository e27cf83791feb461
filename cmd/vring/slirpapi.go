package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/slirpapi"
)

// newSlirpAPI is "vring slirp-api".
func newSlirpAPI() *cobra.Command {
	c := ctl{output: outputTable}
	var listen string
	cmd := &cobra.Command{
		Use:   "slirp-api --listen PATH",
		Short: "Answer the API of slirp4netns for a vring that serves guests",
		Long: `Answer at a unix socket what slirp4netns answers with -a: add_hostfwd, list_hostfwd and remove_hostfwd, a request in JSON by each
connection. vring is asked at its control socket, which is found as vring ctl finds it. Ctrl-C ends it, and the forwards stay.

  vring slirp-api --listen /tmp/api.sock
  echo '{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":8080,"guest_port":80}}' | nc -NU /tmp/api.sock

As with slirp4netns, a forward without host_addr is one of all addresses of the host: vring nat must have --expose for it.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listen == "" {
				return wrongUse(errors.New("no socket to answer at; write --listen PATH"))
			}
			if err := c.check(); err != nil {
				return err
			}
			path, err := c.find()
			if err != nil {
				return err
			}
			l, err := new(net.ListenConfig).Listen(cmd.Context(), "unix", listen)
			if err != nil {
				return wrongUse(fmt.Errorf("--listen %s: %w", listen, err))
			}
			client := control.NewClient(path)
			defer client.Close()
			return slirpapi.New(client).Serve(cmd.Context(), l)
		},
	}
	c.places(cmd.Flags())
	cmd.Flags().StringVar(&listen, "listen", "", "unix socket to answer at, which is made")
	completeFlags(cmd)
	return cmd
}
