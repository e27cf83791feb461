package control

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// A forward leads to the guest whose address it has, or to the first one. Where a request names a guest, it is about the forwards of that
// one, and a forward without an address leads there.

// scope is what a request about forwards is about: guests that share a network behind NAT, or one that has its own.
type scope struct {
	own    string           // that of daemon.Network
	guests []daemon.Network // of the network
	guest  int              // that the request names, -1 for all of them
}

// scopeOf finds out what a request is about. One that names no guest is about those that share a network.
func (s *Server) scopeOf(r *http.Request) (*scope, error) {
	name := r.PathValue("name")
	if name != "" {
		return s.scopeOfGuest(name)
	}
	scopes := s.scopes()
	switch {
	case len(scopes) == 0:
		return nil, noForwards()
	case scopes[0].own != "" && len(scopes) > 1:
		return nil, failed(http.StatusUnprocessableEntity, "each guest of this vring has forwards of its own; name one, as in /v1/guests/%s/forwards", scopes[0].name(0))
	}
	return scopes[0], nil
}

func noForwards() error {
	return failed(http.StatusUnprocessableEntity, "guests of this vring have no forwards: only those behind a NAT (vring nat) do")
}

// scopes are those of all guests behind NAT, of guests that share a network first.
func (s *Server) scopes() (all []*scope) {
	for _, n := range s.Daemon.Networks() {
		switch last := len(all) - 1; {
		case n.NAT == nil:
		case n.Own == "" && last >= 0:
			all[last].guests = append(all[last].guests, n)
		default:
			all = append(all, &scope{own: n.Own, guests: []daemon.Network{n}, guest: -1})
		}
	}
	return all
}

// scopeOfGuest is what a request is about that names a guest.
func (s *Server) scopeOfGuest(name string) (*scope, error) {
	if err := s.checkGuest(name); err != nil {
		return nil, err
	}
	for _, sc := range s.scopes() {
		for i := range sc.guests {
			if sc.name(i) == name {
				sc.guest = i
				return sc, nil
			}
		}
	}
	return nil, failed(http.StatusUnprocessableEntity, "guest %s has no forwards: only those behind a NAT (vring nat) do", cut(name))
}

// name is that of a guest.
func (sc *scope) name(guest int) string { return sc.guests[guest].Guest }

// guestOf is the guest that a forward leads to.
func (sc *scope) guestOf(f *spec.Forward) int {
	a := f.Guest.Addr()
	return max(0, slices.IndexFunc(sc.guests, func(n daemon.Network) bool { return a.IsValid() && (n.NAT.Guest == a || n.NAT.Guest6 == a) }))
}

// whole is a forward with the address of its guest, and the path as short as it can be: two that are the same one are equal.
func (sc *scope) whole(f spec.Forward) spec.Forward {
	if !f.Guest.Addr().IsValid() {
		f.Guest = netip.AddrPortFrom(sc.guests[0].NAT.Guest, f.Guest.Port())
	}
	f.Path = f.CleanPath()
	return f
}

// covers reports whether the request is about a forward.
func (sc *scope) covers(f *spec.Forward) bool { return sc.guest < 0 || sc.guest == sc.guestOf(f) }

func (s *Server) forwards(r *http.Request, _ []byte) (any, error) {
	all := []api.Forward{}
	if name := r.PathValue("name"); name != "" {
		sc, err := s.scopeOfGuest(name)
		if err != nil {
			return nil, err
		}
		return sc.list(all), nil
	}
	scopes := s.scopes()
	if len(scopes) == 0 {
		return nil, noForwards()
	}
	for _, sc := range scopes {
		all = sc.list(all)
	}
	return all, nil
}

// list appends the forwards that a request is about.
func (sc *scope) list(to []api.Forward) []api.Forward {
	for i := range sc.guests {
		for _, f := range sc.guests[i].NAT.Forwards {
			if sc.guest < 0 || sc.guest == i {
				to = append(to, answerOf(sc.whole(f), sc.name(i)))
			}
		}
	}
	return to
}

// answerOf is a forward as answers have it.
func answerOf(f spec.Forward, guest string) api.Forward {
	a := api.Forward{
		Text: f.String(), Guest: guest, Proto: spec.ProtoName(f.Proto), Path: f.Path, GuestAddress: f.Guest.Addr().String(), GuestPort: f.Guest.Port(),
		Count: f.Count, Gate: f.Gate, AcceptProxy: f.AcceptProxy, SendProxy: f.SendProxy,
		Interface: f.Binding.Interface, IfFree: f.Binding.IfFree, Freebind: f.Binding.Freebind,
	}
	if f.Path == "" {
		a.HostAddress, a.HostPort = f.Host.Addr().String(), f.Host.Port()
	}
	return a
}

func (s *Server) changeForwards(r *http.Request, body []byte) (any, error) {
	sc, err := s.scopeOf(r)
	if err != nil {
		return nil, err
	}
	want, err := read[api.ForwardChange](body)
	if err != nil {
		return nil, err
	}
	if len(want.Add)+len(want.Remove) == 0 {
		return nil, unread("there is nothing to add or to remove")
	}
	add, errAdd := sc.read(want.Add)
	remove, errRemove := sc.read(want.Remove)
	if err := multierror.Append(nil, errRemove, errAdd).ErrorOrNil(); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	return s.change(func(c *daemon.Config) error {
		n, err := natOf(c, sc.own)
		if err != nil {
			return err
		}
		goes := map[spec.Forward]bool{}
		for _, f := range remove {
			goes[sc.whole(f)] = true
		}
		missing := sc.missing(n, remove)
		rest := slices.DeleteFunc(slices.Clone(n.Forwards), func(f spec.Forward) bool { return goes[sc.whole(f)] })
		var twice error
		n.Forwards, twice = sc.join(rest, add)
		return multierror.Append(nil, missing, twice).ErrorOrNil()
	})
}

func (s *Server) replaceForwards(r *http.Request, body []byte) (any, error) {
	sc, err := s.scopeOf(r)
	if err != nil {
		return nil, err
	}
	want, err := read[[]api.Forward](body)
	if err != nil {
		return nil, err
	}
	forwards, err := sc.read(want)
	if err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	return s.change(func(c *daemon.Config) error {
		n, err := natOf(c, sc.own)
		if err != nil {
			return err
		}
		return sc.replace(n, forwards)
	})
}

// replace gives the guests that the request is about other forwards. One that stays keeps its place, and the form in which it was written.
func (sc *scope) replace(n *daemon.NAT, forwards []spec.Forward) error {
	if _, err := sc.join(nil, forwards); err != nil {
		return err
	}
	wanted := map[spec.Forward]bool{}
	for _, f := range forwards {
		wanted[sc.whole(f)] = true
	}
	n.Forwards = slices.DeleteFunc(slices.Clone(n.Forwards), func(f spec.Forward) bool { return sc.covers(&f) && !wanted[sc.whole(f)] })
	for _, f := range n.Forwards {
		delete(wanted, sc.whole(f))
	}
	for _, f := range forwards {
		if wanted[sc.whole(f)] {
			n.Forwards = append(n.Forwards, f)
		}
	}
	return nil
}

// join returns forwards and more of them. The error tells of each that comes twice.
func (sc *scope) join(forwards, more []spec.Forward) ([]spec.Forward, error) {
	has := map[spec.Forward]bool{}
	for _, f := range forwards {
		has[sc.whole(f)] = true
	}
	var errs *multierror.Error
	for _, f := range more {
		if has[sc.whole(f)] {
			errs = multierror.Append(errs, failed(http.StatusUnprocessableEntity, "forward %s is there already, or comes twice in the request", sc.whole(f)))
		}
		has[sc.whole(f)] = true
	}
	return append(forwards, more...), errs.ErrorOrNil()
}

// missing tells of each of the forwards that is not there, or comes twice.
func (sc *scope) missing(n *daemon.NAT, forwards []spec.Forward) error {
	has := map[spec.Forward]bool{}
	for _, f := range n.Forwards {
		has[sc.whole(f)] = true
	}
	var errs *multierror.Error
	for _, f := range forwards {
		if !has[sc.whole(f)] {
			errs = multierror.Append(errs, failed(http.StatusUnprocessableEntity, "there is no forward %s; %s", sc.whole(f), sc.there(n)))
		}
		delete(has, sc.whole(f))
	}
	return errs.ErrorOrNil()
}

// there tells which forwards there are.
func (sc *scope) there(n *daemon.NAT) string {
	const most = 10
	var texts []string
	for _, f := range n.Forwards {
		if sc.covers(&f) {
			texts = append(texts, sc.whole(f).String())
		}
	}
	switch {
	case len(texts) == 0:
		return "there are none"
	case len(texts) > most:
		return "there are " + strings.Join(texts[:most], ", ") + " and others"
	}
	return "there are " + strings.Join(texts, ", ")
}

// read reads forwards of a request. The error tells all that is wrong.
func (sc *scope) read(items []api.Forward) (all []spec.Forward, err error) {
	if err := checkCount(len(items)); err != nil {
		return nil, err
	}
	var errs *multierror.Error
	for i := range items {
		f, err := sc.readOne(&items[i])
		all, errs = append(all, f), multierror.Append(errs, err)
	}
	return all, errs.ErrorOrNil()
}

// readOne reads a forward, which must lead to a guest that the request is about.
func (sc *scope) readOne(item *api.Forward) (spec.Forward, error) {
	f, err := parse(item)
	if err != nil {
		return f, err
	}
	if sc.guest > 0 && !f.Guest.Addr().IsValid() {
		f.Guest = netip.AddrPortFrom(sc.guests[sc.guest].NAT.Guest, f.Guest.Port())
	}
	if !sc.covers(&f) {
		return f, failed(http.StatusUnprocessableEntity, "forward %s leads to guest %s, and the request is about %s; leave the address out, or ask for that guest",
			f, sc.name(sc.guestOf(&f)), sc.name(sc.guest))
	}
	return f, nil
}

// parse reads a forward from its text, or from the other fields.
func parse(item *api.Forward) (spec.Forward, error) {
	said := *item
	said.Guest = ""
	if said.Text == "" {
		return fromFields(&said)
	}
	f, err := spec.ParseForward(item.Text)
	if err != nil {
		return f, err
	}
	if said != (api.Forward{Text: said.Text}) && said != answerOf(f, "") {
		return f, failed(http.StatusUnprocessableEntity, "forward %q: its text and its other fields say different things; leave one of both out", cut(item.Text))
	}
	return f, nil
}

// fromFields reads a forward from all fields but the text: their text must be one that means them.
func fromFields(item *api.Forward) (spec.Forward, error) {
	f := spec.Forward{Path: item.Path, Count: max(item.Count, 1), Gate: item.Gate, AcceptProxy: item.AcceptProxy, SendProxy: item.SendProxy,
		Binding: spec.Binding{Interface: item.Interface, IfFree: item.IfFree, Freebind: item.Freebind}}
	host, guest := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.Addr{}
	var wrong [3]error
	f.Proto, wrong[0] = protoOf(item.Proto)
	if item.HostAddress != "" {
		host, wrong[1] = addressOf("host_address", item.HostAddress)
	}
	if item.GuestAddress != "" {
		guest, wrong[2] = addressOf("guest_address", item.GuestAddress)
	}
	f.Guest = netip.AddrPortFrom(guest, item.GuestPort)
	if f.Path == "" {
		f.Host = netip.AddrPortFrom(host, item.HostPort)
	}
	if err := multierror.Append(nil, wrong[:]...).ErrorOrNil(); err != nil {
		return f, err
	}
	if err := multierror.Append(nil, f.Check()...).ErrorOrNil(); err != nil {
		return f, failed(http.StatusUnprocessableEntity, "forward %s: %v", f, configfile.Flatten(err)[0])
	}
	read, err := spec.ParseForward(f.String())
	if err == nil && (read != f || f.Path != "" && item.HostAddress != "" || f.Path != "" && item.HostPort != 0) {
		err = failed(http.StatusUnprocessableEntity, "forward %s: its fields do not go together; write it as text", f)
	}
	return f, err
}

// protoOf reads a protocol.
func protoOf(text string) (uint8, error) {
	switch text {
	case "", "tcp":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	}
	return 0, failed(http.StatusUnprocessableEntity, "proto %q: want tcp or udp", cut(text))
}

// addressOf reads an address of a field.
func addressOf(field, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, failed(http.StatusUnprocessableEntity, "%s %q: want an address of IPv4 or IPv6", field, cut(text))
	}
	return a, nil
}
