package icmperr

import (
	"fmt"
	"strings"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// ReportDenied counts a denial and enters it into the ledger. Of the first one to a service under this policy it tells the user, and names the
// option that opens it. What a rule closes is closed as the user wished, and not told.
func (e *Sender) ReportDenied(key *flowtable.Key, decided *policy.Decision) {
	v := decided.Verdict
	counter := &e.shard.Counters.Denied
	*counter++
	e.ledger.Denied(key, ledger.Judged(decided))
	e.shard.KeepDrop(counter, key, false, func() string { return e.closedBy(key, v) })
	d := policy.DestinationOf(key)
	if v != policy.IsClosed && v != policy.IsUnlisted && v != policy.IsResolver || !e.reported.IsNew(d) {
		return
	}
	form := "the guest was denied a service of the host, which %s opens"
	switch v {
	case policy.IsUnlisted:
		form = "the guest was denied a destination, which %s opens"
	case policy.IsResolver:
		form = "the guest was denied another name server than vring's, past which rules by name would mean nothing, which %s opens"
	}
	message, _, _ := strings.Cut(form, ", which %s")
	if opener := e.hooks.Opening(*key, v); opener != "" {
		message = fmt.Sprintf(form, opener)
	}
	e.shard.Warn(message, "destination", fmt.Sprintf("%s %s", spec.ProtoName(key.Proto), key.RemoteAddrPort()))
}

// closedBy says what closes the destination of key, and what opens it.
func (e *Sender) closedBy(key *flowtable.Key, v policy.Verdict) string {
	switch v {
	case policy.NoWay:
		return "how it is to leave the host is a way for TCP only"
	case policy.IsNobody:
		return "nobody has that address"
	}
	opener, rule := e.hooks.Opening(*key, v), ""
	if v == policy.IsDenied || v == policy.Held {
		rule = e.hooks.Denying(*key)
	}
	switch {
	case rule == "" && opener == "":
		return ""
	case rule == "":
		return "opened by " + opener
	case opener == "":
		return rule
	}
	return rule + "; opened before it by " + opener
}

// ForgetReported lets the user be told of all denials again.
func (e *Sender) ForgetReported() { e.reported.Forget() }
