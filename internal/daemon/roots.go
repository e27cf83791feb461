package daemon

import (
	"crypto/x509"
	"slices"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// The certificates of resolvers that are asked by TLS must come from somebody whom the host trusts. Who that is, files of the host tell, and they are
// out of reach once the sandbox is entered.

// readRoots reads whom certificates may come from, if a resolver is asked by TLS.
func (d *Daemon) readRoots() (err error) {
	if !slices.ContainsFunc(d.config.allNAT(), (*NAT).asksByTLS) {
		return nil
	}
	if d.roots, err = x509.SystemCertPool(); err != nil {
		return faultf("%s tls://: the host's certificates of authorities cannot be read: %w; install ca-certificates, or name a file of them by SSL_CERT_FILE", optionDNS, err)
	}
	return nil
}

// checkRoots returns why guests cannot have resolvers by TLS from now on.
func (d *Daemon) checkRoots(c *nat.Config) error {
	if d.roots != nil || !asksByTLS(c.Resolvers, c.Split) {
		return nil
	}
	return faultf("%s tls://: the host's certificates of authorities were not read at the start, and cannot be from now on; start vring again with such a resolver", optionDNS)
}

func (n *NAT) asksByTLS() bool { return asksByTLS(n.Resolvers, n.Split) }

func asksByTLS(resolvers []dns.Server, split []dns.Route) bool {
	isTLS := func(s dns.Server) bool { return s.TLS }
	return slices.ContainsFunc(resolvers, isTLS) || slices.ContainsFunc(split, func(r dns.Route) bool { return slices.ContainsFunc(r.Servers, isTLS) })
}
