package hostconf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// BootFile is what a kind of client boots.
type BootFile struct {
	Client string // of clientKinds, or the number of an architecture; empty for every client
	Name   string // a file on the boot server, or a URL
}

// Client is what a client says of itself.
type Client struct {
	Archs []uint16 // processor and firmware (RFC 4578 section 2.1)
	IPXE  bool     // it is iPXE, which takes scripts and URLs
	PXE   bool     // it is a PXE client, which takes files by TFTP only unless it is iPXE
	HTTP  bool     // it is a UEFI HTTP client, which takes URLs only
}

// BootFileForm is what ParseBootFile reads.
const BootFileForm = "[CLIENT=]NAME"

// ipxe is the kind of a client that is iPXE, whatever its architecture.
const ipxe = "ipxe"

// maxBootFile is the longest name in bytes: that of one option.
const maxBootFile = 255

// clientKinds are the architectures that have a name of ours (the registry of RFC 4578).
func clientKinds() map[string][]uint16 {
	return map[string][]uint16{
		ipxe: nil, "bios": {0}, "efi-ia32": {6}, "efi-x64": {7, 9}, "efi-arm64": {11}, "efi-riscv64": {27},
		"http-x64": {16}, "http-arm64": {19}, "http-riscv64": {28},
	}
}

// ClientKinds are the kinds of clients that have a name, in order.
func ClientKinds() string {
	var names []string
	for name := range clientKinds() {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// ParseBootFile reads BootFileForm.
func ParseBootFile(text string) (BootFile, error) {
	f := BootFile{Name: text}
	if client, name, found := strings.Cut(text, "="); found && !strings.ContainsAny(client, "/:.?") {
		f = BootFile{Client: client, Name: name}
		_, known := clientKinds()[client]
		_, err := strconv.ParseUint(client, 10, 16)
		if !known && err != nil {
			return f, fmt.Errorf("--boot-file %q: there is no client %q; want %s, or the number of an architecture", text, client, ClientKinds())
		}
	}
	if f.Name == "" || len(f.Name) > maxBootFile || strings.ContainsFunc(f.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return f, fmt.Errorf("--boot-file %q: want %s, a name of 1 to %d bytes without spaces, as in pxelinux.0 or http://10.0.2.2:8000/boot.ipxe",
			text, BootFileForm, maxBootFile)
	}
	return f, nil
}

func (f BootFile) String() string {
	if f.Client == "" {
		return f.Name
	}
	return f.Client + "=" + f.Name
}

// isURL reports whether the name says by itself where the file is.
func (f BootFile) isURL() bool { return strings.Contains(f.Name, "://") }

func (f BootFile) isHTTP() bool {
	name := strings.ToLower(f.Name)
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// suits reports whether a client of that kind can use f, and is meant.
func (f BootFile) suits(c Client) bool {
	switch {
	case c.HTTP && !f.isHTTP(), c.PXE && !c.IPXE && f.isHTTP():
		return false
	case f.Client == "":
		return true
	case f.Client == ipxe:
		return c.IPXE
	}
	archs, named := clientKinds()[f.Client]
	if !named {
		n, _ := strconv.ParseUint(f.Client, 10, 16) // was parsed before
		archs = []uint16{uint16(n)}
	}
	return slices.ContainsFunc(c.Archs, func(a uint16) bool { return slices.Contains(archs, a) })
}

// BootFile returns what c boots, !ok if nothing.
func (c *Config) BootFile(client Client) (f BootFile, ok bool) {
	for _, f := range c.BootFiles {
		if f.suits(client) {
			return f, true
		}
	}
	return BootFile{}, false
}

// BootServer returns the boot server of one version of IP, the zero Addr if there is none.
func (c *Config) BootServer(is4 bool) (server netip.Addr) {
	for _, a := range ofVersion(c.BootServers, is4) {
		return a
	}
	return netip.Addr{}
}

// BootURL returns where f is by a URL, as DHCPv6 needs it (RFC 5970 section 3.1); "" if that cannot be told.
func (c *Config) BootURL(f BootFile) string {
	server := c.BootServer(false)
	switch {
	case f.isURL():
		return f.Name
	case server.IsValid():
		return "tftp://[" + server.String() + "]/" + f.Name
	}
	return ""
}

func (c *Config) checkBoot() error {
	for _, a := range c.BootServers {
		if !isHost(a) {
			return fmt.Errorf("--boot-server %s: want the address of one host, as guests reach it; the host itself is 10.0.2.2 "+
				"for them", a)
		}
	}
	for _, is4 := range []bool{true, false} {
		if of := ofVersion(c.BootServers, is4); len(of) > 1 {
			return fmt.Errorf("--boot-server: want one of each version of IP, not both %s and %s", of[0], of[1])
		}
	}
	for _, f := range c.BootFiles {
		if !f.isURL() && len(c.BootServers) == 0 {
			return fmt.Errorf("--boot-file %s: nobody knows where that file is; add --tftp DIRECTORY or --boot-server ADDRESS, or write a URL", f)
		}
	}
	if len(c.BootServers) > 0 && len(c.BootFiles) == 0 {
		return fmt.Errorf("--boot-server %s: no file is named; add --boot-file NAME", c.BootServers[0])
	}
	return nil
}
