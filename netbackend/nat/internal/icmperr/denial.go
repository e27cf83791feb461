package icmperr

import (
	"fmt"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// maxDenialsTold is how many distinct denials the user is told of.
const maxDenialsTold = 64

// ReportDenied counts a denial, and tells the user of the first one to a service under this policy, naming the option that opens it. What a rule
// closes is closed as the user wished, and not told.
func (e *Sender) ReportDenied(key *flowtable.Key, v policy.Verdict) {
	counter := &e.shard.Counters.Denied
	*counter++
	e.shard.KeepDrop(counter, key, false, func() string { return e.closedBy(key, v) })
	d := policy.DestinationOf(key)
	if v != policy.IsClosed && v != policy.IsUnlisted || e.reported[d] || len(e.reported) >= maxDenialsTold {
		return
	}
	e.reported[d] = true
	opener := "--allow-host "
	message := "the guest was denied a service of the host"
	if v == policy.IsUnlisted {
		opener, message = "--allow ", "the guest was denied a destination"
	}
	destination := fmt.Sprintf("%s %s", spec.ProtoName(key.Proto), key.RemoteAddrPort())
	e.shard.Warn(message+", which "+opener+e.Opener(key)+" opens", "destination", destination)
}

// closedBy says what closes the destination of key, or opens it.
func (e *Sender) closedBy(key *flowtable.Key, v policy.Verdict) string {
	switch v {
	case policy.IsClosed:
		return "opened by --allow-host " + e.Opener(key)
	case policy.IsUnlisted:
		return "opened by --allow " + e.Opener(key)
	case policy.IsDenied:
		return e.denying(*key)
	}
	return "nobody has that address"
}

// ForgetReported lets the user be told of all denials again.
func (e *Sender) ForgetReported() { clear(e.reported) }

// Opener returns the value of the flag that opens the destination of key.
func (e *Sender) Opener(key *flowtable.Key) string {
	name := spec.ProtoName(key.Proto)
	switch {
	case key.Proto == netpkt.ICMP:
		return fmt.Sprintf("%s:%s", name, key.Remote.Netip())
	case e.shard.Nets.IsGateway(&key.Remote):
		return fmt.Sprintf("%s:%d", name, key.RemotePort)
	}
	return fmt.Sprintf("%s:%s", name, key.RemoteAddrPort())
}
