package hostconf

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/miekg/dns"
)

const (
	maxLabel = 63  // RFC 1035 section 2.3.4
	maxName  = 253 // a whole name as text
	nameForm = "letters, digits, hyphens and underscores"
)

// IsName reports whether name is a host name or domain of up to most bytes (RFC 1123 section 2.1; underscores are common and
// harmless): clients have passed names from the network on to shells.
func IsName(name string, most int) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || strings.Trim(label, allowed) != "" {
			return false
		}
	}
	return len(name) <= most
}

// IsDomain reports whether name is a domain of which hosts can be told.
func IsDomain(name string) bool { return IsName(name, maxName) }

// CheckNames returns what is wrong with a host name and a domain that are to be told to a guest. Empty ones are right.
func CheckNames(hostname, domain string) error {
	var all *multierror.Error
	switch name, rest, dotted := strings.Cut(hostname, "."); {
	case dotted:
		all = multierror.Append(all, fmt.Errorf("host name %q has a dot; write --hostname %s --domain %s", hostname, name, rest))
	case hostname != "" && !IsName(hostname, maxLabel):
		all = multierror.Append(all, fmt.Errorf("host name %q: want up to %d %s, as in web-1", hostname, maxLabel, nameForm))
	}
	if domain != "" && !IsDomain(domain) {
		all = multierror.Append(all, fmt.Errorf("domain %q: want names of %s with dots between them, as in example.org", domain, nameForm))
	}
	return all.ErrorOrNil()
}

// CheckSearch returns what is wrong with search domains.
func CheckSearch(domains []string) error {
	if len(domains) > maxSearch {
		return fmt.Errorf("--search: given %d times; want %d at most", len(domains), maxSearch)
	}
	for _, d := range domains {
		switch {
		case strings.ContainsAny(d, ", "):
			return fmt.Errorf("--search %q: an option holds one domain; write --search once for each", d)
		case !IsDomain(d):
			return fmt.Errorf("--search %q: want names of %s with dots between them, as in example.org", d, nameForm)
		}
	}
	return nil
}

// Names returns domains, one behind the other, each in labels (RFC 1035 section 3.1), as DHCPv6 and router advertisements carry
// them (RFC 8415 section 10, RFC 8106 section 5.2). Domains that are none, or no longer fit room bytes, are left out.
func Names(domains []string, room int) []byte { return pack(domains, room, nil) }

// CompressedNames is Names with references to names that were there before, as DHCP carries them (RFC 3397 section 2).
func CompressedNames(domains []string, room int) []byte { return pack(domains, room, map[string]int{}) }

func pack(domains []string, room int, seen map[string]int) []byte {
	b := make([]byte, room)
	n := 0
	for _, d := range domains {
		if !IsDomain(d) {
			continue
		}
		end, err := dns.PackDomainName(dns.Fqdn(d), b, n, seen, seen != nil)
		if err != nil {
			break
		}
		n = end
	}
	return b[:n]
}
