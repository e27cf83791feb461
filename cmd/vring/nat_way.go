package main

import (
	"cmp"
	"log/slog"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// wayFlags are the flags that say how guests' packets leave the host.
type wayFlags struct {
	via                                     string
	interfaceOfBoth, interface4, interface6 string
	addresses                               []string
}

// wayOptions are the names of the flags.
func wayOptions() []string {
	return []string{"via", "outbound-interface", "outbound-interface4", "outbound-interface6", "outbound-address"}
}

func (f *wayFlags) add(set *pflag.FlagSet) {
	set.StringVar(&f.via, "via", "", "proxy by which the guest's connections leave: "+spec.ProxyForm+" (default: by none)")
	set.StringVar(&f.interfaceOfBoth, "outbound-interface", "", "interface of the host that the guest's packets leave by, and no other (default: as the host's routes say)")
	set.StringVar(&f.interface4, "outbound-interface4", "", "the same for IPv4 alone")
	set.StringVar(&f.interface6, "outbound-interface6", "", "the same for IPv6 alone")
	set.StringArrayVar(&f.addresses, "outbound-address", nil, "source address of the host that the guest's packets leave with (repeatable: one for IPv4, one for IPv6)")
}

// parse reads the flags into c.
func (f *wayFlags) parse(c *daemon.NAT) error {
	var errs *multierror.Error
	if f.via != "" {
		via, err := spec.ParseProxy(f.via)
		c.Via, errs = via, multierror.Append(errs, err)
	}
	for _, name := range []struct {
		text string
		to   *string
	}{{f.interfaceOfBoth, &c.OutboundInterface}, {f.interface4, &c.OutboundInterface4}, {f.interface6, &c.OutboundInterface6}} {
		if name.text != "" {
			*name.to, errs = name.text, multierror.Append(errs, spec.CheckInterface(name.text))
		}
	}
	for _, text := range f.addresses {
		var w spec.Way
		_, err := w.Take("address", text)
		errs = multierror.Append(errs, err)
		if a := cmp.Or(w.Address4, w.Address6); a.IsValid() {
			c.OutboundAddresses = append(c.OutboundAddresses, a)
		}
	}
	return errs.ErrorOrNil()
}

// logWay logs how guests' packets leave the host, if anybody has said so.
func logWay(log *slog.Logger, w spec.Way) {
	if w != (spec.Way{}) {
		log.Info("what guests send leaves", "by", w.String())
	}
}
