package main

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/regularfile"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// ruleTexts are the rules of a command line in their order, which --allow, --deny, --allow-name and --deny-name share.
type ruleTexts []ruleText

type ruleText struct {
	allow, named bool
	text         string
}

// add declares the flags.
func (r *ruleTexts) add(f *pflag.FlagSet) {
	f.Var(&ruleFlag{texts: r, allow: true}, "allow", "let the guest reach a destination: "+spec.RuleForm+" (repeatable)")
	f.Var(&ruleFlag{texts: r}, "deny", "keep the guest from reaching a destination: "+spec.RuleForm+" (repeatable)")
	f.Var(&ruleFlag{texts: r, allow: true, named: true}, "allow-name", "let the guest reach a host by name: "+spec.NameRuleForm+" (repeatable)")
	f.Var(&ruleFlag{texts: r, named: true}, "deny-name", "keep the guest from reaching a host by name: "+spec.NameRuleForm+" (repeatable)")
}

// parse returns the rules. The error holds all that is wrong.
func (r ruleTexts) parse() (rules []spec.Rule, err error) {
	var errs *multierror.Error
	for _, t := range r {
		parse := spec.ParseRule
		if t.named {
			parse = spec.ParseNameRule
		}
		rule, err := parse(t.text, t.allow)
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		rules = append(rules, rule)
	}
	return rules, errs.ErrorOrNil()
}

// api returns a rule as the control socket takes it.
func (t *ruleText) api() api.Rule {
	switch {
	case t.named && t.allow:
		return api.Rule{AllowName: t.text}
	case t.named:
		return api.Rule{DenyName: t.text}
	case t.allow:
		return api.Rule{Allow: t.text}
	}
	return api.Rule{Deny: t.text}
}

// parseNameGroup reads GROUP=FILE, and the file.
func parseNameGroup(text string) (spec.NameGroup, error) {
	name, path, found := strings.Cut(text, "=")
	if !found || path == "" {
		return spec.NameGroup{}, fmt.Errorf("--name-group %q: want GROUP=FILE, a file with one name a line", text)
	}
	g := spec.NameGroup{Name: name}
	if err := spec.ParseGroupName(name); err != nil {
		return g, fmt.Errorf("--name-group: %w", err)
	}
	content, err := regularfile.Read(path, maxNameFile)
	if err != nil {
		return g, fmt.Errorf("--name-group %s: %w", text, err)
	}
	if g.Names, err = spec.ParseNameList(string(content)); err != nil {
		return g, fmt.Errorf("--name-group %s: %w", text, err)
	}
	return g, nil
}

// maxNameFile is how long a file of names may be, in bytes.
const maxNameFile = 4 << 20

// ruleFlag is one of the flags. It implements pflag.Value.
type ruleFlag struct {
	texts        *ruleTexts
	allow, named bool
}

// Set appends a rule.
func (f *ruleFlag) Set(text string) error {
	*f.texts = append(*f.texts, ruleText{allow: f.allow, named: f.named, text: text})
	return nil
}

func (f *ruleFlag) String() string { return "" }

// Type is what the help calls the value.
func (f *ruleFlag) Type() string { return "rule" }
