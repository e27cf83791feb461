package dhcp6

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/vringnet/vring/netbackend/services/hostconf"
)

const (
	maxSearchBytes = 512
	maxMessage     = 1280 - 40 - 8 // what passes every link (RFC 8200 section 5)
	httpClient     = "HTTPClient"  // what UEFI says to boot by HTTP, and wants to hear (UEFI specification, HTTP Boot)
)

// addNames adds what hosts are told beside addresses to r, the answer to m, and encodes it. What does not fit is left out, what
// a host can best do without first.
func (s *Server) addNames(r, m *dhcpv6.Message) []byte {
	extra := s.extras(m)
	for _, o := range extra {
		r.UpdateOption(o)
	}
	for _, o := range s.cfg.More.Options6 {
		r.Options.Del(dhcpv6.OptionCode(o.Code))
		if !o.Omit {
			r.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionCode(o.Code), OptionData: o.Value})
		}
	}
	b := r.ToBytes()
	for i := len(s.cfg.More.Options6) - 1; i >= 0 && len(b) > maxMessage; i-- {
		r.Options.Del(dhcpv6.OptionCode(s.cfg.More.Options6[i].Code))
		b = r.ToBytes()
	}
	for i := len(extra) - 1; i >= 0 && len(b) > maxMessage; i-- {
		r.Options.Del(extra[i].Code())
		b = r.ToBytes()
	}
	return b
}

// extras are what the answer to m tells beside addresses, the most important first.
func (s *Server) extras(m *dhcpv6.Message) (extra []dhcpv6.Option) {
	generic := func(code dhcpv6.OptionCode, value []byte) {
		if len(value) > 0 {
			extra = append(extra, &dhcpv6.OptionGeneric{OptionCode: code, OptionData: value})
		}
	}
	if len(s.cfg.DNS) > 0 { // RFC 3646
		extra = append(extra, dhcpv6.OptDNS(addresses(s.cfg.DNS)...))
	}
	if file, client, ok := s.bootFile(m); ok { // RFC 5970
		generic(dhcpv6.OptionBootfileURL, []byte(file))
		if client != nil {
			extra = append(extra, client)
		}
	}
	if s.cfg.Search != nil {
		generic(dhcpv6.OptionDomainSearchList, hostconf.Names(s.cfg.Search(), maxSearchBytes))
	}
	if servers := addresses(s.cfg.More.NTPOf(false)); len(servers) > 0 {
		ntp := &dhcpv6.OptNTPServer{} // RFC 5908, and RFC 4075 for older clients
		var list []byte
		for _, a := range servers {
			server := dhcpv6.NTPSuboptionSrvAddr(a)
			ntp.Suboptions.Add(&server)
			list = append(list, a...)
		}
		extra = append(extra, ntp)
		generic(dhcpv6.OptionSNTPServerList, list)
	}
	return extra
}

// bootFile returns the URL of what the client of m boots, and what UEFI's HTTP client wants to hear, nil for others.
func (s *Server) bootFile(m *dhcpv6.Message) (url string, class dhcpv6.Option, ok bool) {
	client, number := bootClient(m)
	file, ok := s.cfg.More.BootFile(client)
	if !ok {
		return "", nil, false
	}
	if client.HTTP {
		class = &dhcpv6.OptVendorClass{EnterpriseNumber: number, Data: [][]byte{[]byte(httpClient)}}
	}
	url = s.cfg.More.BootURL(file)
	return url, class, url != ""
}

// bootClient returns what m says of its sender, and by which vendor's number.
func bootClient(m *dhcpv6.Message) (c hostconf.Client, vendor uint32) {
	for _, a := range m.Options.ArchTypes() {
		c.Archs = append(c.Archs, uint16(a))
	}
	for _, o := range m.Options.Get(dhcpv6.OptionUserClass) {
		c.IPXE = c.IPXE || bytes.Contains(o.ToBytes(), []byte("iPXE"))
	}
	for _, v := range m.Options.VendorClasses() {
		for _, data := range v.Data {
			c.PXE = c.PXE || bytes.HasPrefix(data, []byte("PXEClient"))
			if bytes.HasPrefix(data, []byte(httpClient)) {
				c.HTTP, vendor = true, v.EnterpriseNumber
			}
		}
	}
	return c, vendor
}

func addresses(addrs []netip.Addr) (ips []net.IP) {
	for _, a := range addrs {
		ips = append(ips, a.AsSlice())
	}
	return ips
}
