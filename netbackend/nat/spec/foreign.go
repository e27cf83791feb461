package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// What QEMU, docker, podman, ssh and passt write for a forward, a host service or a rule is not read, for it means
// something else here now and then, but it is recognized: the error then says what to write.

// correction is what somebody meant, as it is written here.
type correction struct {
	text string // for the option; several options are separated by morePrefix
	why  string // what is different here
}

// morePrefix separates what must be said in several options, for forwards. Others replace it by their own option.
const morePrefix = " -p "

var (
	qemuForward  = regexp.MustCompile(`^(?i:hostfwd=)?(tcp|udp|):([^:\[\]]*|\[[^\]]*\]):(\d+)-([^:\[\]]*|\[[^\]]*\]):(\d+)$`)
	dockerSuffix = regexp.MustCompile(`^(.+)/(?i:(tcp|udp))$`)
	passtAddress = regexp.MustCompile(`^([^/%]+)(?:%[^/]*)?/(\d.*)$`)
	frontWord    = regexp.MustCompile(`^(?i:gate|accept-proxy|send-proxy|send-proxy-v2|tcp|udp|unix):`)
)

// correctForward returns what is probably meant by a forward that cannot be read. Its text can be. With control characters
// it could not be shown in one line.
func correctForward(text string) (correction, bool) {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return correction{}, false
	}
	if strings.Contains(text, ",") {
		return correctList(text)
	}
	head, rest := cutFrontWords(strings.TrimSpace(text))
	for _, rewrite := range []func(string) (correction, bool){qemuForm, dockerForm, passtForm, namedForm, bareIPv6, onePort} {
		c, ok := rewrite(rest)
		if !ok {
			continue
		}
		if c.text, ok = rejoin(head, c.text); ok {
			return c, true
		}
	}
	fixed, ok := rejoin(head, rest)
	return correction{fixed, "options are written in lower case, and in front of tcp: or udp:"}, ok && fixed != text
}

// rejoin puts a forward together, and reports whether it can be read.
func rejoin(head, rest string) (string, bool) {
	if strings.HasPrefix(rest, tcpPrefix) || strings.HasPrefix(rest, udpPrefix) {
		head = strings.TrimSuffix(strings.TrimSuffix(head, tcpPrefix), udpPrefix)
	}
	_, err := readForward(head + rest)
	return head + rest, err == nil
}

// correctList takes a list apart, of which each part is an option here.
func correctList(text string) (correction, bool) {
	var fixed []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if _, err := readForward(part); err != nil {
			c, ok := correctForward(part)
			if !ok {
				return c, false
			}
			part = c.text
		}
		fixed = append(fixed, part)
	}
	return correction{strings.Join(fixed, morePrefix), "an option holds one forward"}, len(fixed) > 0
}

// cutFrontWords takes options and protocol from the front of a forward, and puts them into their order.
func cutFrontWords(text string) (head, rest string) {
	options, proto := "", ""
	for {
		word := frontWord.FindString(text)
		next := text[len(word):]
		switch lower := strings.ToLower(word); lower {
		case "":
			return options + proto, text
		case tcpPrefix, udpPrefix:
			if qemuForward.MatchString(strings.ToLower(text)) {
				return options + proto, strings.ToLower(text)
			}
			proto = lower
		case unixPrefix:
			return options + proto + lower, next
		default:
			options += lower
		}
		text = next
	}
}

// allAddresses ends a correction where the other program listens on all addresses.
func allAddresses(of, text string) string {
	return fmt.Sprintf("%s; vring listens on 127.0.0.1 unless an address is given, as in 0.0.0.0:%s", of, text)
}

// qemuForm reads hostfwd=tcp:ADDRESS:PORT-ADDRESS:PORT.
func qemuForm(text string) (correction, bool) {
	m := qemuForward.FindStringSubmatch(text)
	if m == nil {
		return correction{}, false
	}
	proto, host, guest := "", m[2], m[4]
	if m[1] == "udp" {
		proto = udpPrefix
	}
	ports := m[3] + ":" + m[5]
	if guest != "" {
		ports = m[3] + ":" + guest + ":" + m[5]
	}
	if host != "" {
		return correction{proto + host + ":" + ports, "this is QEMU's form"}, true
	}
	return correction{proto + ports, allAddresses("this is QEMU's form", ports)}, true
}

// dockerForm reads PORTS/tcp.
func dockerForm(text string) (correction, bool) {
	m := dockerSuffix.FindStringSubmatch(text)
	if m == nil {
		return correction{}, false
	}
	rest := m[1]
	if c, ok := onePort(rest); ok {
		rest = c.text
	}
	if strings.EqualFold(m[2], "udp") {
		rest = udpPrefix + rest
	}
	return correction{rest, "the protocol is written in front, as in udp:53:53"}, true
}

// passtForm reads ADDRESS/PORTS.
func passtForm(text string) (correction, bool) {
	m := passtAddress.FindStringSubmatch(text)
	if m == nil {
		return correction{}, false
	}
	address, ports := m[1], m[2]
	if a, err := netip.ParseAddr(address); err == nil {
		address = bracketed(a)
	}
	if c, ok := onePort(ports); ok {
		ports = c.text
	}
	return correction{address + ":" + ports, "an address is followed by a colon"}, true
}

// addressNames are what stands for an address elsewhere.
func addressNames(name string) (address string, known bool) {
	switch strings.ToLower(name) {
	case "localhost":
		return "127.0.0.1", true
	case "*", "any", "all":
		return "0.0.0.0", true
	}
	return "", false
}

// namedForm replaces names where addresses are needed. On the guest's side localhost is the guest itself.
func namedForm(text string) (correction, bool) {
	parts, changed := splitColons(text), false
	if len(parts) < 3 {
		return correction{}, false
	}
	if a, ok := addressNames(parts[0]); ok {
		parts[0], changed = a, true
	}
	if i := len(parts) - 2; i > 0 && (strings.EqualFold(parts[i], "localhost") || parts[i] == "") {
		parts, changed = append(parts[:i:i], parts[i+1:]...), true
	}
	return correction{strings.Join(parts, ":"), "addresses are needed, not names"}, changed
}

// bareIPv6 puts addresses of IPv6 into brackets, wherever they can be found.
func bareIPv6(text string) (correction, bool) {
	const (
		why      = "IPv6 addresses, and no others, are written in brackets"
		maxParts = 2 * (8 + 1) // two addresses and two ports
	)
	parts := strings.Split(strings.NewReplacer("[", "", "]", "").Replace(text), ":")
	join := func(from, to int) string { return strings.Join(parts[from:to], ":") }
	is6 := func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	n := len(parts)
	if n > maxParts {
		return correction{}, false
	}
	for hostEnd := 0; hostEnd < n-1; hostEnd++ {
		host := ""
		if hostEnd > 0 {
			if !is6(join(0, hostEnd)) {
				continue
			}
			host = "[" + join(0, hostEnd) + "]:"
		}
		for guestStart := hostEnd + 1; guestStart < n; guestStart++ {
			guest := join(guestStart, n)
			if middle := join(guestStart, n-1); guestStart < n-1 {
				if !is6(middle) {
					continue
				}
				guest = "[" + middle + "]:" + parts[n-1]
			}
			fixed := host + join(hostEnd, guestStart) + ":" + guest
			if _, err := readForward(fixed); err == nil && fixed != text {
				return correction{fixed, why}, true
			}
		}
	}
	return correction{}, false
}

// onePort reads PORT[-LAST], which stands for the same ports on both sides elsewhere.
func onePort(text string) (correction, bool) {
	if _, _, err := parsePortRange(text); err != nil {
		return correction{}, false
	}
	return correction{text + ":" + text, "a guest port is needed as well"}, true
}

// correctService returns what is probably meant by a host service that cannot be read.
func correctService(text string) (correction, bool) {
	proto, rest := "tcp:", strings.ToLower(strings.TrimSpace(text))
	for _, p := range []string{tcpPrefix, udpPrefix} {
		if after, ok := strings.CutPrefix(rest, p); ok {
			proto, rest = p, after
		}
	}
	why := "a host service is named by its port"
	if m := dockerSuffix.FindStringSubmatch(rest); m != nil {
		proto, rest, why = strings.ToLower(m[2])+":", m[1], "the protocol is written in front"
	}
	if host, port, ok := cutLast(rest); ok {
		if _, known := addressNames(host); known {
			rest = port
		} else if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			rest, why = bracketed(a)+":"+port, "IPv6 addresses are written in brackets"
		}
	}
	fixed := proto + rest
	_, err := readHostServices(fixed)
	return correction{fixed, why}, err == nil
}

// correctRule returns what is probably meant by a rule that cannot be read. again separates what must be said twice.
func correctRule(text, again string) (correction, bool) {
	proto, rest := "", strings.ToLower(strings.TrimSpace(text))
	if m := dockerSuffix.FindStringSubmatch(rest); m != nil {
		proto, rest = strings.ToLower(m[2])+":", m[1]
	}
	for _, p := range []string{tcpPrefix, udpPrefix, "icmp:"} {
		if after, ok := strings.CutPrefix(rest, p); ok {
			proto, rest = p, after
			break
		}
	}
	name, ports, hasPorts := strings.Cut(rest, ":")
	everything := name == "any" || name == "all" || name == "*"
	if _, _, err := parsePortRange(rest); err == nil {
		everything, ports, hasPorts = true, rest, true
	}
	switch {
	case everything && hasPorts:
		return correction{proto + "0.0.0.0/0:" + ports + again + proto + "[::/0]:" + ports, "an address is needed, for all of them 0.0.0.0/0 and ::/0"}, true
	case everything:
		return correction{proto + "0.0.0.0/0" + again + proto + "::/0", "an address is needed, for all of them 0.0.0.0/0 and ::/0"}, true
	}
	if proto+rest != text && new(Rule).parse(proto+rest) == nil {
		return correction{proto + rest, "the protocol is written in front, in lower case"}, true
	}
	return correctNetmask(proto, rest)
}

// correctNetmask replaces ADDRESS/MASK, and sets the bits behind a length to zero.
func correctNetmask(proto, text string) (correction, bool) {
	addr, rest, found := strings.Cut(text, "/")
	if !found {
		return correction{}, false
	}
	mask, ports, hasPorts := strings.Cut(rest, ":")
	bits, ok := maskBits(mask)
	a, err := netip.ParseAddr(addr)
	if !ok || err != nil || !a.Is4() {
		return correction{}, false
	}
	fixed := proto + netip.PrefixFrom(a, bits).Masked().String()
	if hasPorts {
		fixed += ":" + ports
	}
	var r Rule
	return correction{fixed, "a network's length is a number of bits"}, r.parse(fixed) == nil
}

// maskBits returns the length of a network that is given as 255.255.255.0.
func maskBits(text string) (bits int, ok bool) {
	m, err := netip.ParseAddr(text)
	if err != nil || !m.Is4() {
		return 0, false
	}
	b := m.As4()
	word := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for word&(1<<31) != 0 {
		bits, word = bits+1, word<<1
	}
	return bits, word == 0
}

// CorrectNetwork returns how a network is written that somebody wrote in another program's way, "" if that is not known:
// with net=, without a length (then it has usual bits), with a mask, or with an address of it.
func CorrectNetwork(text string, usual int) string {
	text = strings.TrimPrefix(strings.TrimSpace(text), "net=")
	addr, length, found := strings.Cut(text, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" {
		return ""
	}
	bits := usual
	if found {
		if bits, err = strconv.Atoi(length); err != nil {
			var ok bool
			if bits, ok = maskBits(length); !ok || !a.Is4() {
				return ""
			}
		}
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}
