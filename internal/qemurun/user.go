package qemurun

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// usualMAC is the address that QEMU gives to the first card.
const usualMAC = "52:54:00:12:34:56"

// What QEMU's user network has where the command line does not say otherwise; vring has the same.
var (
	usualNetwork  = netip.MustParsePrefix("10.0.2.0/24")
	usualNetwork6 = netip.MustParsePrefix("fec0::/64")
)

// Numbers of hosts in a network, of both.
const (
	routerHost = 2
	dnsHost    = 3
	guestHost  = 15
)

// translation is what the options of a user network are for "vring nat".
type translation struct {
	network, network6 netip.Prefix
	mac               string     // of the guest's card
	guest             netip.Addr // of IPv4, if it is not the usual one
	router            netip.Addr // of IPv4, if it was said
	forwards          []spec.Forward
	options, notes    []string
}

// translate turns the properties of a user network into options of "vring nat". mac is that of the guest's card, "" for QEMU's own. The
// error tells all that vring cannot be.
func translate(user properties, mac string) (options, notes []string, err error) {
	t := translation{network: usualNetwork, network6: usualNetwork6, mac: mac}
	if t.mac == "" {
		t.mac = usualMAC
	}
	var errs *multierror.Error
	errs = multierror.Append(errs, t.setNetworks(user))
	for _, p := range user {
		if err := t.add(p); err != nil {
			errs = multierror.Append(errs, fmt.Errorf("%s=%s: %w", p.key, p.value, err))
		}
	}
	t.addForwards()
	t.notes = append(t.notes, fmt.Sprintf("By QEMU's user network the guest reached every service of the host, at %v; "+
		"vring opens those that --allow-host names.", t.hostAddress()))
	return t.options, t.notes, errs.ErrorOrNil()
}

// hostAddress is the address by which the guest reaches the host.
func (t *translation) hostAddress() netip.Addr {
	if t.router.IsValid() {
		return t.router
	}
	return nth(t.network, routerHost)
}

// User turns options of QEMU's user network, which may begin with "user", into those of "vring nat". notes are what a user should know of the
// difference, a sentence each; the error tells all that vring cannot be.
func User(options string) (nat, notes []string, err error) {
	user, err := readProperties(options, "type")
	if err != nil {
		return nil, nil, err
	}
	return translate(user, "")
}

// setNetworks reads the networks, which other properties are compared with.
func (t *translation) setNetworks(user properties) (err error) {
	if text := user.get("net"); text != "" {
		network, err := netip.ParsePrefix(text)
		if err != nil || !network.Addr().Is4() {
			return fmt.Errorf("net=%s: write it with the number of its bits, as in %v", text, usualNetwork)
		}
		t.network = network.Masked()
		t.say("network", t.network)
	}
	if text := user.get("ipv6-net"); text != "" {
		network, err := netip.ParsePrefix(text)
		if err != nil || !network.Addr().Is6() {
			return fmt.Errorf("ipv6-net=%s: write it with the number of its bits, as in fd00::/64", text)
		}
		t.network6 = network.Masked()
		t.say("network6", t.network6)
	}
	return nil
}

// say adds an option.
func (t *translation) say(name string, value any) {
	t.options = append(t.options, fmt.Sprintf("--%s=%v", name, value))
}

// sameNames are the properties that vring has as options.
var sameNames = map[string]string{
	"hostname": "hostname", "domainname": "domain", "dnssearch": "search", "bootfile": "boot-file", "tftp-server-name": "boot-server", "tftp": "tftp",
}

// ofOthers are the properties that say the network's name, its card and what is read before.
var ofOthers = []string{"type", "id", "driver", "model", "mac", "macaddr", "addr", "vectors", "net", "ipv6-net"}

// add turns a property into an option. The error says what vring has instead.
func (t *translation) add(p property) (err error) {
	if name := sameNames[p.key]; name != "" {
		t.say(name, p.value)
		return nil
	}
	switch p.key {
	case "hostfwd":
		f, err := spec.ParseQEMUForward(p.value)
		t.forwards = append(t.forwards, f)
		return err
	case "restrict", "ipv6", "ipv4":
		return t.addSwitch(p.key, isOn(p.value))
	case "dhcpstart":
		return t.setGuest(p.value)
	case "host":
		return t.setHost(p, "router", t.network, routerHost)
	case "dns":
		return t.setHost(p, "dns-relay", t.network, dnsHost)
	case "ipv6-host":
		return t.setHost(p, "router", t.network6, routerHost)
	case "ipv6-dns":
		return t.setHost(p, "dns-relay", t.network6, dnsHost)
	case "guestfwd":
		return t.addGuestForward(p.value)
	case "smb", "smbserver":
		return errors.New("vring serves no files by SMB; serve them on the host, and open that by --allow-host")
	}
	if slices.Contains(ofOthers, p.key) {
		return nil
	}
	return errors.New("vring does not know this property of a user network")
}

// addGuestForward leads an address of the guest's network to a service of the host.
func (t *translation) addGuestForward(text string) error {
	from, to, found := strings.Cut(strings.TrimPrefix(text, "tcp:"), "-")
	if !found {
		return errors.New("want [tcp]:GUEST-ADDRESS:PORT-tcp:HOST:PORT")
	}
	to, isTCP := strings.CutPrefix(to, "tcp:")
	if !isTCP {
		return errors.New("vring starts no programs and opens no devices for the guest; have one listen on the host, as by " +
			"socat TCP-LISTEN:7000,bind=127.0.0.1,fork EXEC:COMMAND or UNIX-CONNECT:PATH, and write -tcp:127.0.0.1:7000")
	}
	to, _, _ = strings.Cut(to, ",") // options of QEMU's device
	r, err := spec.ParseRedirect("tcp:" + strings.TrimPrefix(from, ":") + "=" + strings.Replace(to, "localhost:", "127.0.0.1:", 1))
	if err != nil {
		return err
	}
	t.say("redirect", r)
	t.notes = append(t.notes, fmt.Sprintf("Each connection of the guest to %v is one to %v; QEMU has a single one for all of them.", r.From, r.To))
	return nil
}

// addSwitch is add for a property that is on or off.
func (t *translation) addSwitch(key string, on bool) error {
	switch {
	case key == "restrict" && on:
		t.options = append(t.options, "--restrict")
	case key == "ipv6" && !on:
		t.say("network6", "off")
	case key == "ipv4" && !on:
		return errors.New("vring always gives IPv4; leave it out")
	}
	return nil
}

// setGuest gives the guest its address.
func (t *translation) setGuest(text string) error {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return err
	case !t.network.Contains(a):
		return fmt.Errorf("it is not in %v", t.network)
	case a != nth(t.network, guestHost):
		t.guest = a
		t.say("lease", fmt.Sprintf("%s=%v", t.mac, a))
	}
	return nil
}

// setHost gives a host of the network its address, by an option that is needed where it is not the usual one.
func (t *translation) setHost(p property, option string, network netip.Prefix, usual int) error {
	a, err := netip.ParseAddr(p.value)
	if err != nil {
		return err
	}
	if !network.Contains(a) {
		return fmt.Errorf("it is not in %v", network)
	}
	if a != nth(network, usual) {
		t.say(option, a)
	}
	if option == "router" && network == t.network {
		t.router = a
	}
	return nil
}

// addForwards turns forwards into options, to where the guest is.
func (t *translation) addForwards() {
	var wide []string
	for _, f := range t.forwards {
		if t.guest.IsValid() && !f.Guest.Addr().IsValid() {
			f.Guest = netip.AddrPortFrom(t.guest, f.Guest.Port())
		}
		t.say("forward", f)
		if f.Host.Addr().IsUnspecified() {
			wide = append(wide, fmt.Sprint(f.Host.Port()))
		}
	}
	if len(wide) > 0 {
		t.notes = append(t.notes, fmt.Sprintf("Other machines can connect to port %s, as with QEMU; 127.0.0.1 in front of a port of hostfwd keeps it to this one.",
			strings.Join(wide, ", ")))
	}
}

// nth returns the nth address of a network.
func nth(network netip.Prefix, n int) netip.Addr {
	a := network.Masked().Addr().AsSlice()
	for i := len(a) - 1; n > 0 && i >= 0; i-- {
		n += int(a[i])
		a[i] = byte(n)
		n >>= 8
	}
	out, _ := netip.AddrFromSlice(a) // its length is that of an address
	return out
}
