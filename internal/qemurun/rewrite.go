package qemurun

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/qemuopt"
)

// Host is what the new command line depends on, beside the old one.
type Host struct {
	Version qemuopt.Version // of the QEMU that is started
	Socket  string          // on which vring listens
	Queues  int             // queue pairs; 0 and 1 are one
	MAC     string          // of the card, if the command line says none; "" leaves it to QEMU
	More    bool            // the command line may have vhost-user networks of its own
}

// Plan is a command line of QEMU whose guest has vring for its network.
type Plan struct {
	QEMU  []string // with the program
	NAT   []string // options of "vring nat" that say what those of the user network said
	Notes []string // what a user should know of the new command line, a sentence each
	KVM   bool     // the guest runs on the host's processor, instead of being emulated
}

// IDs of what is added.
const (
	memoryID  = "vring-memory"
	networkID = "vring-net"
)

// rewriter is a command line while it is rewritten.
type rewriter struct {
	host    Host
	program string
	options []option
	plan    Plan
}

// Rewrite returns the plan for a command line of QEMU, which begins with the program. The error tells all that is wrong with it.
func Rewrite(command []string, host Host) (Plan, error) {
	r := rewriter{host: host, program: command[0], options: split(command[1:])}
	r.plan.KVM = r.usesKVM()
	steps := []func() error{r.checkOptions, r.shareMemory, r.putNetwork}
	var errs *multierror.Error
	for _, step := range steps {
		errs = multierror.Append(errs, step())
	}
	r.plan.QEMU = append([]string{r.program}, join(r.options)...)
	return r.plan, errs.ErrorOrNil()
}

// note tells the user something.
func (r *rewriter) note(format string, a ...any) {
	r.plan.Notes = append(r.plan.Notes, fmt.Sprintf(format, a...))
}

// checkOptions refuses what cannot be together with vring.
func (r *rewriter) checkOptions() error {
	if r.has("daemonize") {
		return errors.New("-daemonize: QEMU would go to the background, and vring run ends with the process that it has started; leave it out, " +
			"or serve the guest by \"vring nat\"")
	}
	return nil
}

// usesKVM reports whether the guest runs on the host's processor.
func (r *rewriter) usesKVM() bool {
	name := filepath.Base(r.program)
	if r.has("enable-kvm") || name == "kvm" || name == "qemu-kvm" {
		return true
	}
	return slices.ContainsFunc(r.options, func(o option) bool {
		switch o.name {
		case "accel":
			return strings.HasPrefix(o.value, "kvm")
		case "machine", "M":
			list, err := readProperties(o.value, "type")
			return err == nil && strings.HasPrefix(list.get("accel"), "kvm")
		}
		return false
	})
}

// has reports whether there is an option.
func (r *rewriter) has(name string) bool {
	return slices.ContainsFunc(r.options, func(o option) bool { return o.name == name })
}

// values are the properties of all options of some names, in their order.
func (r *rewriter) values(implied string, names ...string) (all []properties, err error) {
	var errs *multierror.Error
	for _, o := range r.options {
		if slices.Contains(names, o.name) {
			list, err := readProperties(o.value, implied)
			all, errs = append(all, list), multierror.Append(errs, wrap(o, err))
		}
	}
	return all, errs.ErrorOrNil()
}

// wrap says which option an error is about.
func wrap(o option, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("-%s %w", o.name, err)
}

// add adds an option at the end.
func (r *rewriter) add(name, value string) { r.options = append(r.options, written(name, value)) }
