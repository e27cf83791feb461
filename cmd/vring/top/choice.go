package top

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/vringnet/vring/cmd/vring/flowlist"
)

// choiceOf returns the parameters that choose a flow, and no other one that there is at that time.
func choiceOf(f *flowlist.Flow) (url.Values, error) {
	guest, err := netip.ParseAddrPort(f.Flow.Guest)
	if err != nil {
		return nil, fmt.Errorf("the guest's end of a flow: %w", err)
	}
	direction := "out"
	if f.Inbound {
		direction = "in"
	}
	q := url.Values{"proto": {f.Proto}, "direction": {direction}, "guest-address": {guest.Addr().String()}, "remote": {f.Remote}}
	if guest.Port() != 0 {
		q.Set("guest-port", strconv.Itoa(int(guest.Port())))
	}
	return q, nil
}
