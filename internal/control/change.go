package control

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

const (
	// changeRate is how many changes are made in a second, after changeBurst at once. Others are refused: each of them stops the threads
	// of guests for a turn, and asks the broker.
	changeRate, changeBurst = 200, 200
	// maxItems bounds each list of a request.
	maxItems = 4096
	// maxFaults bounds what an answer tells of many things that are wrong.
	maxFaults = 20
)

// admitChange returns why no change is made now.
func (s *Server) admitChange() error {
	if s.pace.Allow() {
		return nil
	}
	return failed(http.StatusTooManyRequests, "there are more than %d changes in a second; try again in a second", changeRate)
}

// change changes the configuration. alter changes a copy of it, and returns what is wrong with the request.
func (s *Server) change(alter func(*daemon.Config) error) (any, error) {
	return s.changeBy(s.apply, alter)
}

// changeBy is change by a method of the daemon.
func (s *Server) changeBy(apply func(func(*daemon.Config) error) (daemon.Applied, error), alter func(*daemon.Config) error) (any, error) {
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	var made []configfile.Difference
	done, err := apply(func(c *daemon.Config) error {
		before := c.Clone()
		if err := alter(c); err != nil {
			return err
		}
		if made = configfile.Diff(&before, c); len(made) == 0 {
			return nil
		}
		return checkFile(&before, c)
	})
	s.Told(Told{Applied: done, Changed: made, Err: err})
	if err != nil {
		return nil, refused(&done, err)
	}
	if len(made) > 0 {
		s.Events.changed(&done, made)
	}
	return changed(&done, made, nil), nil
}

// Told is what became of a change at the control socket.
type Told struct {
	daemon.Applied
	Changed []configfile.Difference
	Err     error // nothing has changed, but see daemon.Applied
}

// checkFile returns why a configuration cannot be that of a file: it must be possible to keep what runs. If that was so before, it does not
// matter.
func checkFile(before, after *daemon.Config) error {
	err := writeAndRead(after)
	if err == nil || writeAndRead(before) != nil {
		return nil
	}
	return failed(http.StatusUnprocessableEntity, "the configuration could not be kept in a file any more: %v", err)
}

// writeAndRead writes the file of a configuration and reads it.
func writeAndRead(c *daemon.Config) error {
	text, err := configfile.Marshal(c, configfile.Short)
	if err != nil {
		return err
	}
	_, err = configfile.Parse("the file", text, strconv.Atoi) // a group is written as its number
	return err
}

// refused is the error of a change that was not made.
func refused(done *daemon.Applied, err error) error {
	if f, ok := err.(*failure); ok {
		return f
	}
	f := failed(http.StatusUnprocessableEntity, "")
	var texts []string
	for i, one := range configfile.Flatten(err) {
		if i == maxFaults {
			texts = append(texts, "and more of this kind")
			break
		}
		fault := api.Fault{Text: one.Error()}
		if at := new(configfile.Fault); errors.As(one, &at) {
			fault = api.Fault{Text: at.Message, File: at.File, Line: at.Line, Column: at.Column}
		}
		f.answer.Faults, texts = append(f.answer.Faults, fault), append(texts, one.Error())
	}
	f.answer.Text = strings.Join(texts, "\n")
	f.answer.Gaps = gapsOf(done.Gaps)
	for i := range done.Lost {
		f.answer.Lost = append(f.answer.Lost, done.Lost[i].String())
	}
	return f
}

// changed is the answer to a change that was made.
func changed(done *daemon.Applied, made, undone []configfile.Difference) *api.Changed {
	return &api.Changed{
		Changed: differencesOf(made), Gaps: gapsOf(done.Gaps), Waiting: append([]string{}, done.Waiting...), Undone: differencesOf(undone),
	}
}

func gapsOf(gaps []daemon.Gap) []api.Gap {
	all := []api.Gap{}
	for _, g := range gaps {
		all = append(all, api.Gap{Forward: g.Forward.String(), Micros: int64(g.For / time.Microsecond)})
	}
	return all
}

func differencesOf(differences []configfile.Difference) []api.Difference {
	all := []api.Difference{}
	for _, d := range differences {
		all = append(all, api.Difference{
			Key: d.Key, Removed: append([]string{}, d.Removed...), Added: append([]string{}, d.Added...), Moved: d.Moved,
		})
	}
	return all
}

// checkCount returns why a list of a request is too long.
func checkCount(n int) error {
	if n <= maxItems {
		return nil
	}
	return failed(http.StatusUnprocessableEntity, "the request has a list of %d items; send %d at a time at most", n, maxItems)
}

// policyOf finds the network whose policy a request is about: that of the guest that it names, or that which guests share. A request that
// names a guest that shares its network asks for all of these. own is that of daemon.Network.
func (s *Server) policyOf(r *http.Request) (own string, err error) {
	name, found := r.PathValue("name"), false
	if name != "" {
		if err := s.checkGuest(name); err != nil {
			return "", err
		}
	}
	for _, n := range s.Daemon.Networks() {
		if n.NAT != nil && (name == n.Guest || name == "" && n.Own == "") {
			own, found = n.Own, true
		}
	}
	switch {
	case found:
		return own, nil
	case name != "":
		return "", failed(http.StatusUnprocessableEntity, "guest %s has no policy: only those behind a NAT (vring nat) do", cut(name))
	}
	return "", failed(http.StatusUnprocessableEntity, "guests of this vring have no policy that they share: only those behind a NAT (vring nat) do; "+
		"name a guest that has a network of its own, as in /v1/guests/NAME/policy")
}

// natOf is a network of a configuration.
func natOf(c *daemon.Config, own string) (*daemon.NAT, error) {
	if n := c.NATOf(own); n != nil {
		return n, nil
	}
	return nil, failed(http.StatusNotFound, "the guest was removed meanwhile")
}

func (s *Server) policy(r *http.Request, _ []byte) (any, error) {
	own, err := s.policyOf(r)
	if err != nil {
		return nil, err
	}
	c := s.Daemon.Config()
	n, err := natOf(&c, own)
	if err != nil {
		return nil, err
	}
	p := &api.Policy{Rules: []api.Rule{}, Restrict: n.Restrict, AllowHost: append([]string{}, spec.HostServiceTexts(n.AllowHost)...)}
	for _, r := range n.Rules {
		if r.Allow {
			p.Rules = append(p.Rules, api.Rule{Allow: r.String()})
		} else {
			p.Rules = append(p.Rules, api.Rule{Deny: r.String()})
		}
	}
	return p, nil
}

// wantedPolicy is api.Policy in a request: what is missing is told from what is empty.
type wantedPolicy struct {
	Rules     *[]api.Rule `json:"rules"`
	Restrict  *bool       `json:"restrict"`
	AllowHost *[]string   `json:"allow_host"`
}

func (s *Server) replacePolicy(r *http.Request, body []byte) (any, error) {
	keep, err := keepsEstablished(r)
	if err != nil {
		return nil, err
	}
	p, err := read[wantedPolicy](body)
	if err != nil {
		return nil, err
	}
	if p.Rules == nil || p.Restrict == nil || p.AllowHost == nil {
		return nil, unread("a policy is replaced as a whole, so rules, restrict and allow_host must all be there")
	}
	if err := checkCount(max(len(*p.Rules), len(*p.AllowHost))); err != nil {
		return nil, err
	}
	rules, err := rulesOf(*p.Rules)
	services, wrong := servicesOf(*p.AllowHost)
	if err := multierror.Append(nil, err, wrong).ErrorOrNil(); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	own, err := s.policyOf(r)
	if err != nil {
		return nil, err
	}
	if err := s.checkPolicyAlone(r, own); err != nil {
		return nil, err
	}
	apply := s.apply
	if keep {
		apply = s.Daemon.ChangeKeepingFlows
	}
	return s.changeBy(apply, func(c *daemon.Config) error {
		n, err := natOf(c, own)
		if err != nil {
			return err
		}
		n.Rules, n.Restrict, n.AllowHost = rules, *p.Restrict, services
		return nil
	})
}

// checkPolicyAlone returns why a request that names a guest does not replace a policy: others have it, too.
func (s *Server) checkPolicyAlone(r *http.Request, own string) error {
	if name := r.PathValue("name"); name == "" || own != "" {
		return nil
	}
	sharing := 0
	for _, n := range s.Daemon.Networks() {
		if n.Own == "" {
			sharing++
		}
	}
	if sharing < 2 {
		return nil
	}
	return failed(http.StatusUnprocessableEntity, "%d guests share this policy, so it is not replaced for one of them; replace that of all by /v1/policy", sharing)
}

// keepsEstablished reports whether flows go on that a new policy closes.
func keepsEstablished(r *http.Request) (keep bool, err error) {
	const name = "keep-established"
	for other, values := range r.URL.Query() {
		switch {
		case other != name:
			return false, failed(http.StatusBadRequest, "there is no %q; there is %s", cut(other), name)
		case len(values) > 1:
			return false, failed(http.StatusBadRequest, "%s is there %d times; write it once", name, len(values))
		}
		if keep, err = strconv.ParseBool(values[0]); err != nil {
			return false, failed(http.StatusBadRequest, "%s %q: want true or false", name, cut(values[0]))
		}
	}
	return keep, nil
}

// rulesOf reads rules. The error tells all that is wrong.
func rulesOf(texts []api.Rule) (rules []spec.Rule, err error) {
	var errs *multierror.Error
	for i, text := range texts {
		if (text.Allow == "") == (text.Deny == "") {
			errs = multierror.Append(errs, failed(http.StatusUnprocessableEntity, "rule %d has one of allow and deny, as in {\"deny\": \"192.168.0.0/16\"}", i))
			continue
		}
		rule, err := spec.ParseRule(text.Allow+text.Deny, text.Allow != "")
		rules, errs = append(rules, rule), multierror.Append(errs, err)
	}
	return rules, errs.ErrorOrNil()
}

// servicesOf reads services of the host. The error tells all that is wrong.
func servicesOf(texts []string) (services []spec.HostService, err error) {
	var errs *multierror.Error
	for _, text := range texts {
		some, err := spec.ParseHostServices(text)
		if len(services)+len(some) > nat.MaxRules { // a range of ports is many, which are not to be copied first
			return nil, failed(http.StatusUnprocessableEntity, "allow_host has more than %d services; name fewer", nat.MaxRules)
		}
		services, errs = append(services, some...), multierror.Append(errs, err)
	}
	return services, errs.ErrorOrNil()
}

func (s *Server) logLevel(*http.Request, []byte) (any, error) {
	return &api.LogLevel{Level: strings.ToLower(s.Daemon.Config().Log.Level.String())}, nil
}

func (s *Server) setLogLevel(_ *http.Request, body []byte) (any, error) {
	want, err := read[api.LogLevel](body)
	if err != nil {
		return nil, err
	}
	log, err := daemon.ParseLogLevel(cut(want.Level))
	if err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	return s.change(func(c *daemon.Config) error {
		c.Log.Level = log.Level
		return nil
	})
}
