package dhcp4

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/vringnet/vring/netbackend/services/hostconf"
)

const (
	optionDomainSearch  = 119 // RFC 3397
	optionUserClass     = 77  // RFC 3004
	optionTFTPServers   = 150 // RFC 5859
	optionIPXE          = 175 // iPXE's own options
	maxSearchBytes      = 512
	httpClient          = "HTTPClient" // what UEFI says to boot by HTTP, and wants to hear (UEFI specification, HTTP Boot)
	bootFileFieldLength = 128          // RFC 2131 section 2
)

// add puts into a, which describes the network unless it is a refusal, what depends on the client or on the time, and what the
// user said about options by their numbers.
func (s *Server) add(a, m *dhcpv4.DHCPv4) {
	if a.MessageType() == dhcpv4.MessageTypeNak {
		return
	}
	if s.cfg.Search != nil {
		if names := hostconf.CompressedNames(s.cfg.Search(), maxSearchBytes); len(names) > 0 {
			a.Options[optionDomainSearch] = names
		}
	}
	s.addBoot(a, m)
	for _, o := range s.cfg.More.Options {
		if o.Omit {
			delete(a.Options, uint8(o.Code))
			continue
		}
		a.Options[uint8(o.Code)] = o.Value
	}
}

// addBoot tells what to boot, and where it is.
func (s *Server) addBoot(a, m *dhcpv4.DHCPv4) {
	client := bootClient(m)
	file, ok := s.cfg.More.BootFile(client)
	if !ok {
		return
	}
	a.UpdateOption(dhcpv4.OptBootFileName(file.Name))
	if len(file.Name) < bootFileFieldLength {
		a.BootFileName = file.Name
	}
	if client.HTTP {
		a.UpdateOption(dhcpv4.OptClassIdentifier(httpClient))
	}
	if server := s.cfg.More.BootServer(true); server.IsValid() {
		a.ServerIPAddr = server.AsSlice()
		a.UpdateOption(dhcpv4.OptTFTPServerName(server.String()))
		a.Options[optionTFTPServers] = server.AsSlice()
	}
}

// bootClient returns what m says of its sender.
func bootClient(m *dhcpv4.DHCPv4) hostconf.Client {
	class := m.Options.Get(dhcpv4.OptionClassIdentifier)
	_, own := m.Options[optionIPXE]
	c := hostconf.Client{
		IPXE: own || bytes.Contains(m.Options[optionUserClass], []byte("iPXE")),
		PXE:  bytes.HasPrefix(class, []byte("PXEClient")),
		HTTP: bytes.HasPrefix(class, []byte(httpClient)),
	}
	archs := m.Options.Get(dhcpv4.OptionClientSystemArchitectureType)
	for ; len(archs) >= 2; archs = archs[2:] {
		c.Archs = append(c.Archs, binary.BigEndian.Uint16(archs))
	}
	return c
}

// fit encodes a, without what the client has no room for: what it did not ask for goes first, then what a guest can best do
// without. Without a mask, a router or a lease time it cannot.
func (s *Server) fit(a, m *dhcpv4.DHCPv4) []byte {
	room := s.room(m)
	b := a.ToBytes()
	asked := m.Options.Get(dhcpv4.OptionParameterRequestList)
	for _, wanted := range []bool{false, true} {
		for _, code := range s.droppable(a) {
			if len(b) <= room {
				return b
			}
			if slices.Contains(asked, code) != wanted {
				continue
			}
			delete(a.Options, code)
			b = a.ToBytes()
		}
	}
	return b
}

// droppable returns the options of a that a guest can do without, that which it misses least first.
func (s *Server) droppable(a *dhcpv4.DHCPv4) []uint8 {
	codes := []uint8{dhcpv4.OptionClientIdentifier.Code()}
	for _, o := range s.cfg.More.Options {
		if uint8(o.Code) != dhcpv4.OptionRouter.Code() {
			codes = append(codes, uint8(o.Code))
		}
	}
	for _, code := range []dhcpv4.OptionCode{
		dhcpv4.OptionNTPServers, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionDomainName, dhcpv4.OptionHostName,
		dhcpv4.GenericOptionCode(optionTFTPServers), dhcpv4.OptionTFTPServerName, dhcpv4.OptionClasslessStaticRoute,
		dhcpv4.OptionBootfileName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionBroadcastAddress, dhcpv4.OptionDomainNameServer,
	} {
		codes = append(codes, code.Code())
	}
	return codes
}
