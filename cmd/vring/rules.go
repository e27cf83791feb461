package main

import (
	"github.com/hashicorp/go-multierror"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// ruleTexts are the rules of a command line in their order, which --allow and --deny share.
type ruleTexts []ruleText

type ruleText struct {
	allow bool
	text  string
}

// add declares the flags.
func (r *ruleTexts) add(f *pflag.FlagSet) {
	f.Var(&ruleFlag{texts: r, allow: true}, "allow", "let the guest reach a destination: "+spec.RuleForm+" (repeatable)")
	f.Var(&ruleFlag{texts: r}, "deny", "keep the guest from reaching a destination: "+spec.RuleForm+" (repeatable)")
}

// parse returns the rules. The error holds all that is wrong.
func (r ruleTexts) parse() (rules []spec.Rule, err error) {
	var errs *multierror.Error
	for _, t := range r {
		rule, err := spec.ParseRule(t.text, t.allow)
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		rules = append(rules, rule)
	}
	return rules, errs.ErrorOrNil()
}

// ruleFlag is one of the flags. It implements pflag.Value.
type ruleFlag struct {
	texts *ruleTexts
	allow bool
}

// Set appends a rule.
func (f *ruleFlag) Set(text string) error {
	*f.texts = append(*f.texts, ruleText{allow: f.allow, text: text})
	return nil
}

func (f *ruleFlag) String() string { return "" }

// Type is what the help calls the value.
func (f *ruleFlag) Type() string { return "rule" }
