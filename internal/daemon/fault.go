package daemon

import (
	"fmt"
	"slices"
)

// Option is a setting of a configuration by the name that users know, as in "socket-path".
type Option string

// Options that faults are about. The tags of Config's fields have all there are.
const (
	optionSocketPath      Option = "socket-path"
	optionClient          Option = "client"
	optionSocketMode      Option = "socket-mode"
	optionSocketGroup     Option = "socket-group"
	optionFD              Option = "fd"
	optionLink            Option = "link"
	optionFrontEnd        Option = "front-end"
	optionOneOff          Option = "one-off"
	optionQueues          Option = "queues"
	optionPoll            Option = "poll-us"
	optionCPUs            Option = "cpus"
	optionLogLevel        Option = "log-level"
	optionLogFormat       Option = "log-format"
	optionNetwork         Option = "network"
	optionShared          Option = "shared-network"
	optionNetwork6        Option = "network6"
	optionMTU             Option = "mtu"
	optionSearch          Option = "search"
	optionDNS             Option = "dns"
	optionDNSFor          Option = "dns-for"
	optionTAP             Option = "tap"
	optionMode            Option = "mode"
	optionSwitchName      Option = "switch-name"
	optionUplink          Option = "switch-uplink"
	optionFlood           Option = "flood"
	optionAgeing          Option = "ageing"
	optionSizes           Option = "sizes"
	optionMAC             Option = "mac"
	optionIP              Option = "ip"
	optionControl         Option = "control"
	optionMetrics         Option = "metrics"
	optionAuditLog        Option = "audit-log"
	optionAuditOff        Option = "audit-off"
	optionLearn           Option = "learn"
	optionAllowHost       Option = "allow-host"
	optionRedirect        Option = "redirect"
	optionSOCKS           Option = "socks"
	optionUI              Option = "ui"
	optionForward         Option = "forward"
	optionVia             Option = "via"
	optionOutboundAddress Option = "outbound-address"

	optionGuestAddress Option = "guest-address"
	optionRouter       Option = "router"
	optionRouterMAC    Option = "router-mac"
	optionBootRoot     Option = "tftp"
	optionDNSRelay     Option = "dns-relay"
	optionNameServer   Option = "name-server"
)

// Fault is one thing that is wrong with a configuration, or with what it names on this host. Whoever wrote it can write it
// otherwise.
type Fault struct {
	// Empty is that a value is missing where there should be one: whoever knows how it was written may tell that better.
	Empty bool

	format string
	args   []any // Options among them
}

// faultf makes a fault of a format and its arguments. Options among them are spelled as the reader writes them.
func faultf(format string, args ...any) *Fault { return &Fault{format: format, args: args} }

// emptyFault is that an option's value is empty.
func emptyFault(o Option) *Fault {
	return &Fault{Empty: true, format: "%s: the value is empty", args: []any{o}}
}

// Error returns the fault with options by their names.
func (f *Fault) Error() string { return f.Spell(func(o Option) string { return string(o) }) }

// Spell returns the fault with options as they are written where the configuration comes from.
func (f *Fault) Spell(option func(Option) string) string { return f.with(option).Error() }

// Unwrap returns the cause, if there is one.
func (f *Fault) Unwrap() error {
	for _, arg := range f.args {
		if err, ok := arg.(error); ok {
			return err
		}
	}
	return nil
}

// with is the fault with options spelled.
func (f *Fault) with(option func(Option) string) error {
	args := slices.Clone(f.args)
	for i := range args {
		if o, ok := args[i].(Option); ok {
			args[i] = option(o)
		}
	}
	return fmt.Errorf(f.format, args...)
}

// LostError is that the network of a guest is gone: its TAP device was deleted, and is not waited for (TAP.Reopen).
type LostError struct{ Err error }

func (e *LostError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }
