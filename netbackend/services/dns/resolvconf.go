package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// resolvConf is what a resolv.conf(5) file says, as far as it is of use here.
type resolvConf struct {
	servers []netip.Addr  // as they are named, usable or not
	search  []string      // domains without a dot at the end
	timeout time.Duration // how long an answer is waited for, 0 if the file does not say so
	rotate  bool          // servers take turns
}

const (
	maxTimeout = 30 // seconds; the C library takes no more (RES_MAXRETRANS)
	maxSearch  = 32 // domains of a search list
)

// parseResolvConf reads the text of a resolv.conf(5) file. Lines that say nothing are left out, as the C library does. A
// later search list or domain takes the place of an earlier one.
func parseResolvConf(text []byte) (c resolvConf) {
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch values := words[1:]; words[0] {
		case "nameserver":
			c.addServer(values)
		case "domain":
			c.search = domains(values[:min(1, len(values))])
		case "search":
			c.search = domains(values)
		case "options":
			c.addOptions(values)
		}
	}
	return c
}

func (c *resolvConf) addServer(values []string) {
	if len(values) == 0 {
		return
	}
	if a, err := netip.ParseAddr(values[0]); err == nil {
		c.servers = append(c.servers, a)
	}
}

func (c *resolvConf) addOptions(options []string) {
	for _, o := range options {
		name, value, _ := strings.Cut(o, ":")
		switch name {
		case "rotate":
			c.rotate = true
		case "timeout":
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				c.timeout = time.Duration(min(n, maxTimeout)) * time.Second
			}
		}
	}
}

// domains returns those of words that are names which a host can be told: what the file holds goes on to guests, whose
// programs may take it into a shell (RFC 1123 section 2.1; underscores are common and harmless). The root is no domain to
// search in.
func domains(words []string) (list []string) {
	for _, w := range words {
		w = strings.TrimSuffix(w, ".")
		if isDomain(w) && !slices.Contains(list, w) && len(list) < maxSearch {
			list = append(list, w)
		}
	}
	return list
}

// isDomain reports whether name is one of labels of letters, digits, hyphens and underscores.
func isDomain(name string) bool {
	const (
		most, mostOfLabel = 253, 63 // RFC 1035 section 2.3.4
		allowed           = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	)
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > mostOfLabel || label[0] == '-' || strings.Trim(label, allowed) != "" {
			return false
		}
	}
	return len(name) <= most
}
