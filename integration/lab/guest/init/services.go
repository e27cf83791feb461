package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// serviceTimeout bounds a question to a server.
const serviceTimeout = 30 * time.Second

// resolve asks the resolver of the lease, or the given one, for the IPv4 addresses of a name.
func resolve(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	resolver := &net.Resolver{PreferGo: true}
	if len(args) > 1 {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, args[1])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), serviceTimeout)
	defer cancel()
	addresses, err := resolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return nil, err
	}
	var names proto.Names
	for _, a := range addresses {
		names.Addresses = append(names.Addresses, a.Unmap().String())
	}
	return names, nil
}

// httpGet fetches a page.
func httpGet(args agent.Arguments, _ func(any)) (any, error) {
	url, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: serviceTimeout}
	response, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	return proto.Page{Status: response.StatusCode, Body: string(body)}, err
}

// httpServe answers every request with one word, until the guest ends.
func httpServe(args agent.Arguments, event func(any)) (any, error) {
	word, err := args.Text(1)
	if err != nil {
		return nil, err
	}
	listener, err := listen(args, event)
	if err != nil {
		return nil, err
	}
	server := http.Server{
		ReadHeaderTimeout: serviceTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, word+"\n")
		}),
	}
	err = server.Serve(listener)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return nil, err
}
