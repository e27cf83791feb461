package nat

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vringnet/vring/netbackend/nat/presets"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// MaxNames is how many names Rules may have in all: those of a group count for each rule that names it.
const MaxNames = 65536

// Refusal is what a guest is told of a name that rules refuse.
type Refusal uint8

const (
	// RefuseName tells that the name server refuses to answer (REFUSED).
	RefuseName Refusal = iota
	// DenyName tells that there is no such name (NXDOMAIN): programs that ask another name server when one refuses do not.
	DenyName
)

// RefusalNames are what ParseRefusal reads.
func RefusalNames() []string { return []string{"refused", "nxdomain"} }

// ParseRefusal reads one of RefusalNames.
func ParseRefusal(text string) (Refusal, error) {
	i := slices.Index(RefusalNames(), text)
	if i < 0 {
		return 0, fmt.Errorf("%q: want refused or nxdomain", text)
	}
	return Refusal(i), nil
}

// String returns what ParseRefusal reads.
func (r Refusal) String() string { return RefusalNames()[r] }

// groups are the names of all groups that rules name: those of the configuration, and those that vring has.
func (c *Config) groups() map[string][]string {
	groups := map[string][]string{}
	for _, g := range c.NameGroups {
		groups[g.Name] = g.Names
	}
	for i := range c.Rules {
		name, isGroup := strings.CutPrefix(c.Rules[i].Named.Name, "@")
		if _, known := groups[name]; !isGroup || known {
			continue
		}
		if names, ok := presets.Group(name); ok {
			groups[name] = names
		}
	}
	return groups
}

// checkNames returns what is wrong with rules by name, and with groups, beside what each rule says by itself.
func (c *Config) checkNames() (faults []error) {
	faults = append(faults, c.checkGroups()...)
	if c.Learn && (c.Restrict || c.hasNameRules()) {
		faults = append(faults, errors.New("--learn runs open and writes rules by name itself: leave --restrict, --allow-name and --deny-name out"))
	}
	groups, names, lastAllowed, lastDenied := c.groups(), 0, -1, -1
	for i := range c.Rules {
		r := &c.Rules[i]
		if !r.Allow {
			lastDenied = i
		}
		if !r.IsByName() {
			continue
		}
		names++
		if r.Allow {
			lastAllowed = i
		}
		if group, isGroup := strings.CutPrefix(r.Named.Name, "@"); isGroup {
			list, known := groups[group]
			names += len(list)
			if !known {
				faults = append(faults, fmt.Errorf("rule %s: there is no group %q; --name-group %s=FILE makes one", r, group, group))
			}
		}
	}
	if names > MaxNames {
		faults = append(faults, fmt.Errorf("rules have %d names; there may be %d", names, MaxNames))
	}
	if lastAllowed >= 0 && !c.Restrict && lastDenied < lastAllowed {
		faults = append(faults, fmt.Errorf("rule %s: it opens nothing, since all is open already; add --restrict, which closes what no rule opens, or a rule that denies behind it", &c.Rules[lastAllowed]))
	}
	if c.hasNameRules() && !c.DNS.IsValid() && !c.DNS6.IsValid() {
		faults = append(faults, errors.New("rules by name need the name server of vring, which tells what they open; leave out what takes it away"))
	}
	return faults
}

// checkGroups returns what is wrong with groups of names.
func (c *Config) checkGroups() (faults []error) {
	names, seen := 0, map[string]bool{}
	for _, g := range c.NameGroups {
		if err := spec.ParseGroupName(g.Name); err != nil {
			faults = append(faults, err)
		}
		if seen[g.Name] {
			faults = append(faults, fmt.Errorf("group %q is there twice", g.Name))
		}
		seen[g.Name] = true
		if len(g.Names) == 0 {
			faults = append(faults, fmt.Errorf("group %q has no names", g.Name))
		}
		if names += len(g.Names); names > MaxNames {
			return append(faults, fmt.Errorf("groups have more than %d names", MaxNames))
		}
		for _, n := range g.Names {
			if name, err := spec.ParseName(n); err != nil || name != n {
				faults = append(faults, fmt.Errorf("group %q: %q is not written as names are", g.Name, n))
			}
		}
	}
	return faults
}

// hasNameRules reports whether there are rules by name.
func (c *Config) hasNameRules() bool {
	return slices.ContainsFunc(c.Rules, func(r spec.Rule) bool { return r.IsByName() })
}

// AsksHostsResolvers reports whether the host's own resolvers may be asked: all of them hand on what they are asked, so with Restrict only
// what the user has named may be asked, a resolver or names.
func (c *Config) AsksHostsResolvers() bool {
	return !c.Restrict || slices.ContainsFunc(c.Rules, func(r spec.Rule) bool { return r.AllowsName() })
}
