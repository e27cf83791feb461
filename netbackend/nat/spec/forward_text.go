package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// What may stand in front of a forward, once each and in any order.
const (
	gatePrefix        = "gate:"
	acceptProxyPrefix = "accept-proxy:"
	sendProxy1Prefix  = "send-proxy:"
	sendProxy2Prefix  = "send-proxy-v2:"
	ifFreePrefix      = "if-free:"
	freebindPrefix    = "freebind:"
)

// interfaceMark is between a host address and the interface by which clients come.
const interfaceMark = "%"

// options returns what stands in front of f.
func (f *Forward) options() (text string) {
	if f.Gate {
		text += gatePrefix
	}
	if f.AcceptProxy {
		text += acceptProxyPrefix
	}
	if f.Binding.IfFree {
		text += ifFreePrefix
	}
	if f.Binding.Freebind {
		text += freebindPrefix
	}
	switch f.SendProxy {
	case 1:
		text += sendProxy1Prefix
	case 2:
		text += sendProxy2Prefix
	}
	return text
}

// cutOption takes an option from the front of text, and adds it to f.
func (f *Forward) cutOption(text string) (rest string, found bool, err error) {
	for _, prefix := range []string{gatePrefix, acceptProxyPrefix, sendProxy1Prefix, sendProxy2Prefix, ifFreePrefix, freebindPrefix} {
		rest, found = strings.CutPrefix(text, prefix)
		if !found {
			continue
		}
		var said bool
		switch prefix {
		case gatePrefix:
			said, f.Gate = f.Gate, true
		case acceptProxyPrefix:
			said, f.AcceptProxy = f.AcceptProxy, true
		case sendProxy1Prefix:
			said, f.SendProxy = f.SendProxy != 0, 1
		case sendProxy2Prefix:
			said, f.SendProxy = f.SendProxy != 0, 2
		case ifFreePrefix:
			said, f.Binding.IfFree = f.Binding.IfFree, true
		case freebindPrefix:
			said, f.Binding.Freebind = f.Binding.Freebind, true
		}
		if said {
			err = fmt.Errorf("duplicate or conflicting option %s", prefix)
		}
		return rest, true, err
	}
	return text, false, nil
}

// What options of the command line read like. Help, messages and documentation show these texts.
const (
	ForwardForm     = "[OPTION:]...[tcp:|udp:][HOST-ADDRESS[%INTERFACE]:]HOST-PORT[-LAST]:[GUEST-ADDRESS:]GUEST-PORT[-LAST]"
	UnixForwardForm = "[OPTION:]...unix:PATH:[GUEST-ADDRESS:]GUEST-PORT"
	HostServiceForm = "[tcp:|udp:][ADDRESS:]PORT[-LAST], or icmp:ADDRESS"
	RuleForm        = "[tcp:|udp:|icmp:]ADDRESS[/BITS][:PORT[-LAST]]"
)

// ParseForward reads ForwardForm or UnixForwardForm. An error is one line. It says what to write, if text is another
// program's way to say the same.
func ParseForward(text string) (Forward, error) {
	f, err := readForward(text)
	if err == nil {
		return f, nil
	}
	if strings.HasPrefix(text, "guestfwd=") {
		return f, fmt.Errorf("forward %q: it leads to the host; write --allow-host tcp:PORT, and the guest finds the service at "+
			"the router's address", text)
	}
	if c, ok := correctForward(text); ok {
		return f, fmt.Errorf("forward %q: %s; write -p %s", text, c.why, c.text)
	}
	if strings.Contains(text, unixPrefix) {
		return f, fmt.Errorf("forward %q: %w; want %s, as in unix:/run/web.sock:80", text, err, UnixForwardForm)
	}
	return f, fmt.Errorf("forward %q: %w; want %s, as in 8080:80", text, err, ForwardForm)
}

// readForward reads a forward with its options.
func readForward(text string) (Forward, error) {
	var options Forward
	rest, found := text, true
	for found {
		var err error
		if rest, found, err = options.cutOption(rest); err != nil {
			return Forward{}, err
		}
	}
	f, err := parseForward(rest)
	f.Gate, f.AcceptProxy, f.SendProxy = options.Gate, options.AcceptProxy, options.SendProxy
	f.Binding.IfFree, f.Binding.Freebind = options.Binding.IfFree, options.Binding.Freebind
	if err != nil {
		return f, err
	}
	for _, err := range []error{f.checkBinding(), f.checkGate(), f.checkProxy()} {
		if err != nil {
			return Forward{}, err
		}
	}
	return f, nil
}

// parseForward reads a forward without options.
func parseForward(text string) (Forward, error) {
	if rest, ok := strings.CutPrefix(text, unixPrefix); ok {
		return parseUnixForward(rest)
	}
	proto, rest := parseProto(text)
	host, guest, err := splitSides(splitColons(rest))
	if err != nil {
		return Forward{}, err
	}
	var binding Binding
	if len(host) == 2 {
		host[0], binding.Interface, _ = strings.Cut(host[0], interfaceMark)
		if strings.HasPrefix(host[0], "[") && !strings.HasSuffix(host[0], "]") {
			host[0] += interfaceMark + binding.Interface // a zone
		}
	}
	hostAddr, hostFirst, hostCount, err := parseSide(host, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	if err != nil {
		return Forward{}, fmt.Errorf("host side: %w", err)
	}
	guestAddr, guestFirst, guestCount, err := parseSide(guest, netip.Addr{})
	if err != nil {
		return Forward{}, fmt.Errorf("guest side: %w", err)
	}
	if hostCount != guestCount {
		return Forward{}, fmt.Errorf("%d ports of the host cannot lead to %d of the guest", hostCount, guestCount)
	}
	return Forward{
		Proto: proto, Count: hostCount, Binding: binding,
		Host: netip.AddrPortFrom(hostAddr, hostFirst), Guest: netip.AddrPortFrom(guestAddr, guestFirst),
	}, nil
}

// unixPrefix marks the path of a unix socket in a forward.
const unixPrefix = "unix:"

// parseUnixForward reads PATH:[GUEST-ADDRESS:]GUEST-PORT. The path may have colons: what follows the last one is the port,
// and what stands before that is the guest's address if it is one.
func parseUnixForward(text string) (Forward, error) {
	path, port, found := cutLast(text)
	if !found {
		return Forward{}, errors.New("a path and a guest port are needed")
	}
	number, err := parsePort(port)
	if err != nil {
		return Forward{}, fmt.Errorf("guest side: %w", err)
	}
	var guest netip.Addr
	parts := splitColons(path)
	last := parts[len(parts)-1]
	if a, err := parseBracketed(last); err == nil {
		path, guest = strings.TrimSuffix(strings.TrimSuffix(path, last), ":"), a
	}
	switch {
	case path == "":
		return Forward{}, errors.New("a path is needed")
	case strings.HasPrefix(path, "@"):
		return Forward{}, fmt.Errorf("anybody may connect to an abstract socket, so there are none; ./%s is a file", path)
	case strings.ContainsRune(path, 0):
		return Forward{}, errors.New("a path cannot have a zero byte")
	}
	return Forward{Proto: protoTCP, Path: path, Guest: netip.AddrPortFrom(guest, number), Count: 1}, nil
}

// splitSides returns which parts name the host and which the guest. Of two parts in front of each other the first is an
// address.
func splitSides(parts []string) (host, guest []string, err error) {
	n := 1
	if !isPortLike(parts[0]) {
		n = 2 // an address first
	}
	switch {
	case len(parts) <= n:
		return nil, nil, errors.New("a host port and a guest port are needed")
	case len(parts)-n > 2:
		return nil, nil, errors.New("there are too many colons")
	}
	return parts[:n], parts[n:], nil
}

// isPortLike reports whether a part is a port, or was to be one: it has no dots or brackets, and begins with a digit.
func isPortLike(s string) bool {
	return s == "" || !strings.ContainsAny(s, ".[") && s[0] >= '0' && s[0] <= '9'
}

// parseSide reads [ADDRESS:]PORT[-LAST], split at the colon.
func parseSide(parts []string, addr netip.Addr) (_ netip.Addr, first, count uint16, err error) {
	if len(parts) == 2 {
		if addr, err = parseBracketed(parts[0]); err != nil {
			return addr, 0, 0, err
		}
	}
	first, last, err := parsePortRange(parts[len(parts)-1])
	return addr, first, last - first + 1, err
}
