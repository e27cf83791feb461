package control

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dnszone"
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
		if len(done.Lost) > 0 {
			_ = s.notKept() // they are no part of what runs any more
		}
		return nil, refused(&done, err)
	}
	answer := changed(&done, made, nil)
	if len(made) > 0 {
		s.Events.changed(&done, made)
		answer.NotKept = s.notKept()
	}
	return answer, nil
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
			Key: d.Key, Removed: maskAll(d.Removed), Added: maskAll(d.Added), Moved: d.Moved,
		})
	}
	return all
}

// maskAll returns values of a configuration as everybody may read them.
func maskAll(values []string) []string {
	masked := []string{}
	for _, v := range values {
		masked = append(masked, spec.MaskAllSecrets(v))
	}
	return masked
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

// askedNAT is the network that a request is about, as it is now.
func (s *Server) askedNAT(r *http.Request) (*daemon.NAT, error) {
	own, err := s.policyOf(r)
	if err != nil {
		return nil, err
	}
	c := s.Daemon.Config()
	return natOf(&c, own)
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
	p := &api.Policy{Hits: hitsOf(s.Daemon.RuleCounts(own), len(n.Rules)), Rules: []api.Rule{}, Restrict: n.Restrict, AllowHost: append([]string{}, spec.HostServiceTexts(n.AllowHost)...), Redirects: []string{}}
	way := n.Way()
	if leaves := way.String(); leaves != "" {
		p.Way = &leaves
	}
	for _, r := range n.Redirects {
		p.Redirects = append(p.Redirects, r.String())
	}
	for i := range n.Rules {
		p.Rules = append(p.Rules, ruleText(&n.Rules[i]))
	}
	for _, g := range n.NameGroups {
		p.NameGroups = append(p.NameGroups, g.String())
	}
	p.RefuseNames = n.RefuseNames.String()
	return p, nil
}

// hitsOf is what was counted for as many rules, and for what none decides; nil if a change of the rules is under way.
func hitsOf(counts []nat.RuleCount, rules int) (all []api.Hits) {
	if len(counts) != rules+1 {
		return nil
	}
	for _, c := range counts {
		all = append(all, api.Hits{Begun: c.Begun, Denied: c.Denied, FromGuest: c.FromGuest, ToGuest: c.ToGuest})
	}
	return all
}

// ruleText is a rule as users see it.
func ruleText(r *spec.Rule) (text api.Rule) {
	switch r.Option() {
	case "--allow":
		text.Allow = r.String()
	case "--deny":
		text.Deny = r.String()
	case "--allow-name":
		text.AllowName = r.String()
	case "--deny-name":
		text.DenyName = r.String()
	}
	return text
}

// wantedPolicy is api.Policy in a request: what is missing is told from what is empty.
type wantedPolicy struct {
	Rules     *[]api.Rule `json:"rules"`
	Restrict  *bool       `json:"restrict"`
	AllowHost *[]string   `json:"allow_host"`
	Hits      []api.Hits  `json:"hits"` // of an answer that is sent back
	// nil leaves what there is.
	Redirects   *[]string `json:"redirects"`
	NameGroups  *[]string `json:"name_groups"`
	RefuseNames *string   `json:"refuse_names"`
	Way         *string   `json:"way"`
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
	own, err := s.policyOf(r)
	if err != nil {
		return nil, err
	}
	if err := s.unmask(&p, own); err != nil {
		return nil, err
	}
	rules, err := rulesOf(*p.Rules)
	services, wrong := servicesOf(*p.AllowHost)
	redirects, wrongRedirects := redirectsOf(p.Redirects)
	way, wrongWay := wayOf(p.Way)
	groups, refusal, wrongNames := namesOf(&p)
	if err := multierror.Append(nil, err, wrong, wrongRedirects, wrongNames, wrongWay).ErrorOrNil(); err != nil {
		return nil, refused(&daemon.Applied{}, err)
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
		if p.Redirects != nil {
			n.Redirects = redirects
		}
		if p.NameGroups != nil {
			n.NameGroups = groups
		}
		if p.RefuseNames != nil {
			n.RefuseNames = refusal
		}
		if p.Way != nil {
			n.SetWay(way)
		}
		return nil
	})
}

// unmask puts the passwords of proxies into a policy where an answer has masked them: each that the policy in force has for the same proxy and
// user. So an answer can be sent back. Others stay masked, and are refused when they are read.
func (s *Server) unmask(p *wantedPolicy, own string) error {
	c := s.Daemon.Config()
	n, err := natOf(&c, own)
	if err != nil {
		return err
	}
	known := passwordsOf(n)
	rules := *p.Rules
	for i := range rules {
		r := &rules[i]
		r.Allow, r.AllowName = unmasked(r.Allow, known), unmasked(r.AllowName, known)
	}
	if p.Way != nil {
		way := unmasked(*p.Way, known)
		p.Way = &way
	}
	return nil
}

// passwordsOf are the proxies of a network with their passwords, by what an answer has of them. One that has two passwords is not there.
func passwordsOf(n *daemon.NAT) map[string]string {
	known, differ := map[string]string{}, map[string]bool{}
	add := func(p *spec.Proxy) {
		if p.Password == "" {
			return
		}
		masked := p.String()
		if before, is := known[masked]; is && before != p.Text() {
			differ[masked] = true
		}
		known[masked] = p.Text()
	}
	add(&n.Via)
	for i := range n.Rules {
		add(&n.Rules[i].Way.Via)
	}
	for masked := range differ {
		delete(known, masked)
	}
	return known
}

// unmasked returns a rule or a way with the passwords that are known.
func unmasked(text string, known map[string]string) string {
	const via = "via="
	parts := strings.Split(text, ";")
	for i, part := range parts {
		if proxy, is := strings.CutPrefix(part, via); is && known[proxy] != "" {
			parts[i] = via + known[proxy]
		}
	}
	return strings.Join(parts, ";")
}

// wayOf reads a way, which may be missing.
func wayOf(text *string) (w spec.Way, err error) {
	if text == nil {
		return w, nil
	}
	w, err = spec.ParseWay(*text)
	if err == nil && w.Redirect.IsValid() {
		err = errors.New("way: redirect= is a key of a rule, and not of everything")
	}
	return w, err
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
		set := slices.DeleteFunc([]string{text.Allow, text.Deny, text.AllowName, text.DenyName}, func(s string) bool { return s == "" })
		if len(set) != 1 {
			errs = multierror.Append(errs, failed(http.StatusUnprocessableEntity, "rule %d has one of allow, deny, allow_name and deny_name, as in {\"deny\": \"192.168.0.0/16\"}", i))
			continue
		}
		parse := spec.ParseRule
		if text.AllowName+text.DenyName != "" {
			parse = spec.ParseNameRule
		}
		rule, err := parse(set[0], text.Allow+text.AllowName != "")
		rules, errs = append(rules, rule), multierror.Append(errs, err)
	}
	return rules, errs.ErrorOrNil()
}

// namesOf reads what a policy says of names. The error tells all that is wrong.
func namesOf(p *wantedPolicy) (groups []spec.NameGroup, refusal nat.Refusal, err error) {
	var errs *multierror.Error
	if p.NameGroups != nil {
		for _, text := range *p.NameGroups {
			g, err := spec.ParseNameGroup(text)
			groups, errs = append(groups, g), multierror.Append(errs, err)
		}
	}
	if p.RefuseNames != nil {
		refusal, err = nat.ParseRefusal(*p.RefuseNames)
		errs = multierror.Append(errs, err)
	}
	return groups, refusal, errs.ErrorOrNil()
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

// redirectsOf reads redirects, nil for none. The error tells all that is wrong.
func redirectsOf(texts *[]string) (redirects []spec.Redirect, err error) {
	if texts == nil {
		return nil, nil
	}
	if err := checkCount(len(*texts)); err != nil {
		return nil, err
	}
	var errs *multierror.Error
	for _, text := range *texts {
		r, err := spec.ParseRedirect(text)
		redirects, errs = append(redirects, r), multierror.Append(errs, err)
	}
	return redirects, errs.ErrorOrNil()
}

func (s *Server) dnsNames(r *http.Request, _ []byte) (any, error) {
	n, err := s.askedNAT(r)
	if err != nil {
		return nil, err
	}
	names := &api.Names{Names: []string{}}
	for _, e := range n.Names {
		names.Names = append(names.Names, e.String())
	}
	return names, nil
}

func (s *Server) replaceDNSNames(r *http.Request, body []byte) (any, error) {
	want, err := read[api.Names](body)
	if err != nil {
		return nil, err
	}
	if want.Names == nil {
		return nil, unread("names must be there, and may be empty")
	}
	if err := checkCount(len(want.Names)); err != nil {
		return nil, err
	}
	var errs *multierror.Error
	var names []dnszone.Entry
	for _, text := range want.Names {
		e, err := dnszone.ParseEntry(text)
		names, errs = append(names, e), multierror.Append(errs, err)
	}
	if err := errs.ErrorOrNil(); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	own, err := s.policyOf(r)
	if err != nil {
		return nil, err
	}
	return s.change(func(c *daemon.Config) error {
		n, err := natOf(c, own)
		if err == nil {
			n.Names = names
		}
		return err
	})
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
