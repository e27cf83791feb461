package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Way is how connections leave the host. What it does not say, the kernel decides; the zero Way says nothing. It can be compared.
//
// A way closes what it cannot lead: by a proxy and by a redirect there is TCP only.
type Way struct {
	// Via is a proxy, to which Interface4 to Address6 lead then, unless it is on the host's loopback.
	Via Proxy
	// Interface4 and Interface6 are the interfaces that IPv4 and IPv6 leave by, and no others even if these are down.
	Interface4, Interface6 string
	// Address4 and Address6 are the source addresses. A version of IP whose address is not said leaves by any.
	Address4, Address6 netip.Addr
	// Redirect is a proxy of the host or its network that takes connections of TCP with a header of the PROXY protocol in front, which names
	// the guest and where it has wanted to go.
	Redirect netip.AddrPort
}

// WayForm is what Way.Take reads, each key once at most, but address once for each version of IP.
const WayForm = "[;via=PROXY][;interface=NAME][;address=ADDRESS][;redirect=ADDRESS:PORT]"

// Keys of a way.
const (
	keyVia        = "via"
	keyInterface  = "interface"
	keyInterface4 = "interface4"
	keyInterface6 = "interface6"
	keyAddress    = "address"
	keyRedirect   = "redirect"
)

// Take reads one key and its value into w. It returns false if the key is not one of a way. No error holds a password.
func (w *Way) Take(key, value string) (isKey bool, err error) {
	switch key {
	case keyVia:
		err = w.takeVia(value)
	case keyInterface, keyInterface4, keyInterface6:
		err = w.takeInterface(key, value)
	case keyAddress:
		err = w.takeAddress(value)
	case keyRedirect:
		err = w.takeRedirect(value)
	default:
		return false, nil
	}
	return true, err
}

// ParseWay reads keys and values with semicolons between, as String and Text write them.
func ParseWay(text string) (w Way, err error) {
	if text == "" {
		return w, nil
	}
	for part := range strings.SplitSeq(text, ";") {
		key, value, _ := strings.Cut(part, "=")
		isKey, err := w.Take(key, value)
		if err == nil && !isKey {
			err = fmt.Errorf("%q is no key of a way", MaskSecrets(key))
		}
		if err != nil {
			return Way{}, err
		}
	}
	return w, w.Check()
}

func (w *Way) takeVia(value string) (err error) {
	if w.Via.Kind != NoProxy {
		return errors.New("via= is there twice; a connection leaves by one proxy")
	}
	w.Via, err = ParseProxy(value)
	return err
}

func (w *Way) takeInterface(key, value string) error {
	if err := CheckInterface(value); err != nil {
		return err
	}
	for _, of := range []struct {
		key  string
		name *string
	}{{keyInterface4, &w.Interface4}, {keyInterface6, &w.Interface6}} {
		if key != keyInterface && key != of.key {
			continue
		}
		if *of.name != "" {
			return fmt.Errorf("%s=%s: an interface is there already, %s", key, value, *of.name)
		}
		*of.name = value
	}
	return nil
}

// CheckInterface returns why no interface can have a name.
func CheckInterface(name string) error {
	isOdd := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == ':' || r == ';' }
	if name == "" || name == "." || name == ".." || len(name) >= unix.IFNAMSIZ || strings.ContainsFunc(name, isOdd) {
		return fmt.Errorf("interface %q: names of interfaces have 1 to %d characters, and no spaces, slashes or colons; ip link lists them", name, unix.IFNAMSIZ-1)
	}
	return nil
}

func (w *Way) takeAddress(value string) error {
	a, err := parseAddress(value)
	if err != nil {
		return err
	}
	has := &w.Address4
	if a.Is6() {
		has = &w.Address6
	}
	if has.IsValid() {
		return fmt.Errorf("address=%s: an address of that version of IP is there already, %s", a, *has)
	}
	*has = a
	return nil
}

func (w *Way) takeRedirect(value string) error {
	if w.Redirect.IsValid() {
		return errors.New("redirect= is there twice; a connection is led to one place")
	}
	at, err := readEnd(strings.Replace(value, "localhost:", "127.0.0.1:", 1))
	if err != nil {
		return fmt.Errorf("redirect %q: %w; want ADDRESS:PORT", value, err)
	}
	w.Redirect = at
	return nil
}

// Check tells what is wrong with w by itself.
func (w *Way) Check() error {
	if err := w.Via.Check(); err != nil {
		return err
	}
	named := w.Interface4 != "" || w.Interface6 != "" || w.Address4.IsValid() || w.Address6.IsValid()
	switch {
	case w.Redirect.IsValid() && (!isOneHost(w.Redirect.Addr()) || w.Redirect.Port() == 0):
		return fmt.Errorf("redirect=%s: want the address of one host, and a port", endText(w.Redirect))
	case w.Redirect.IsValid() && (w.Via.Kind != NoProxy || named):
		return errors.New("redirect= leads to a proxy of yours, which decides how connections leave: leave via=, interface= and address= out")
	case w.Via.IsUsed() && w.Via.At.Addr().IsLoopback() && named:
		return fmt.Errorf("via=%s: the proxy is on this host, and decides itself by which interface and address connections leave; leave interface= and address= out", w.Via)
	}
	return w.checkSources()
}

func (w *Way) checkSources() error {
	for _, a := range []netip.Addr{w.Address4, w.Address6} {
		if a.IsValid() && (!isOneHost(a) || a.IsLoopback()) {
			return fmt.Errorf("address=%s: want an address of this host that others can answer to; ip address lists them", a)
		}
	}
	if w.Address4.IsValid() && !w.Address4.Is4() || w.Address6.IsValid() && !w.Address6.Is6() {
		return errors.New("address=: IPv4 and IPv6 are mixed up")
	}
	for _, name := range []string{w.Interface4, w.Interface6} {
		if name != "" {
			if err := CheckInterface(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// IsForTCP reports whether nothing but connections of TCP can take w.
func (w *Way) IsForTCP() bool { return w.Via.IsUsed() || w.Redirect.IsValid() }

// Or returns w with what it does not say taken from the default.
func (w Way) Or(usual Way) Way {
	if w.Redirect.IsValid() {
		return w
	}
	if w.Via.Kind == NoProxy {
		w.Via = usual.Via
	}
	if w.Via.IsUsed() && w.Via.At.Addr().IsLoopback() {
		return Way{Via: w.Via}
	}
	if w.Interface4 == "" {
		w.Interface4 = usual.Interface4
	}
	if w.Interface6 == "" {
		w.Interface6 = usual.Interface6
	}
	if !w.Address4.IsValid() {
		w.Address4 = usual.Address4
	}
	if !w.Address6.IsValid() {
		w.Address6 = usual.Address6
	}
	return w
}

// String returns w for users and logs, as keys with semicolons between: passwords are not in it.
func (w Way) String() string { return w.text(w.Via.String()) }

// Text returns w as ParseWay reads it, with its passwords.
func (w Way) Text() string { return w.text(w.Via.Text()) }

func (w *Way) text(via string) string {
	var parts []string
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	add(keyVia, via)
	if w.Interface4 == w.Interface6 {
		add(keyInterface, w.Interface4)
	} else {
		add(keyInterface4, w.Interface4)
		add(keyInterface6, w.Interface6)
	}
	for _, a := range []netip.Addr{w.Address4, w.Address6} {
		if a.IsValid() {
			add(keyAddress, a.String())
		}
	}
	if w.Redirect.IsValid() {
		add(keyRedirect, endText(w.Redirect))
	}
	return strings.Join(parts, ";")
}
