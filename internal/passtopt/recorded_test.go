package passtopt

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// record is what the real passt (2026-10-02) did with a command line: integration/passtrecorder has written it.
type record struct {
	Line    string
	Serves  bool
	Status  int
	Output  string
	Stderr  []string
	Sockets []string
	DHCP    *answer
}

// answer is what DHCP tells a guest.
type answer struct {
	Address, Mask, Router string
	DNS, Search           []string
	MTU                   int
	Hostname              string
	Routes, FQDN          string
}

// recordedHost is the host of the recorder.
func recordedHost() Host {
	addr := netip.MustParseAddr
	links := map[string]map[bool]Link{
		"ext0": {
			true:  {Name: "ext0", Address: netip.MustParsePrefix("192.0.2.2/24"), Gateway: addr("192.0.2.1")},
			false: {Name: "ext0", Address: netip.MustParsePrefix("2001:db8::2/64"), Gateway: addr("fe80::1"), LinkLocal: addr("fe80::ff:fe00:2")},
		},
		"int0": {true: {Name: "int0", Address: netip.MustParsePrefix("198.51.100.2/24")}},
		"lo":   {},
	}
	known := map[string]int{"nobody": 65534, "root": 0, "of nogroup": 65534, "of root": 0}
	return Host{
		Link: func(is4 bool, name string) (Link, bool) {
			if name == "" {
				name = "ext0"
			}
			l, ok := links[name][is4]
			return l, ok
		},
		HasInterface: func(name string) bool { _, ok := links[name]; return ok },
		User:         func(name string) (uid, gid int, ok bool) { uid, ok = known[name]; return uid, uid, ok },
		Group:        func(name string) (gid int, ok bool) { gid, ok = known["of "+name]; return gid, ok },
		Resolvers:    []netip.Addr{addr("192.0.2.53"), addr("2001:db8::53")},
		Search:       []string{"lab.example", "corp.example"},
		FirstLocal:   32768, LastLocal: 60999,
	}
}

// outcome is what comes of a command line.
type outcome struct {
	serves  bool
	status  int
	fault   string
	sockets []string
	dhcp    *answer
	text    []string
}

// run is what vring makes of a command line of the recorder.
func run(line string) outcome {
	words := []string{"-s", "s.sock"}
	for _, w := range strings.Fields(line) {
		words = append(words, strings.ReplaceAll(w, `""`, ""))
	}
	o, err := Parse(words)
	if err == nil && o.Action != Serve {
		return outcome{}
	}
	var p Plan
	if err == nil {
		p, err = o.Translate(recordedHost())
	}
	var fault *Fault
	if errors.As(err, &fault) {
		return outcome{status: 1, fault: fault.Text}
	}
	out := outcome{serves: true, sockets: socketsOf(p.Config.NAT.Forwards), text: p.Text}
	if !o.VhostUser {
		out.dhcp = dhcpOf(p.Config.NAT)
	}
	return out
}

// socketsOf are forwards as the recorder writes what is listened on.
func socketsOf(forwards []spec.Forward) (all []string) {
	seen := map[string]bool{}
	for _, f := range forwards {
		a := f.Host.Addr()
		if a == netip.IPv4Unspecified() && slices.ContainsFunc(forwards, func(g spec.Forward) bool {
			return g.Host == netip.AddrPortFrom(netip.IPv6Unspecified(), f.Host.Port()) && g.Proto == f.Proto
		}) {
			continue // passt has one socket for both
		}
		text := fmt.Sprintf("%s %s:%d", spec.ProtoName(f.Proto), a, f.Host.Port())
		if f.Count > 1 {
			text += fmt.Sprintf("-%d", f.Host.Port()+f.Count-1)
		}
		if !seen[text] {
			all = append(all, text)
		}
		seen[text] = true
	}
	slices.Sort(all)
	return slices.Compact(joined(all))
}

// joined are sockets with neighbours of single ports put together.
func joined(all []string) (list []string) {
	for _, s := range all {
		if n := len(list); n > 0 {
			at, last, _ := cutPort(list[n-1])
			if place, port, single := cutPort(s); single && place == at && port == last+1 {
				list[n-1] = strings.TrimSuffix(list[n-1], fmt.Sprintf("-%d", last)) + fmt.Sprintf("-%d", port)
				continue
			}
		}
		list = append(list, s)
	}
	return list
}

// cutPort cuts a socket's place from its last port.
func cutPort(s string) (place string, last int, single bool) {
	i := strings.LastIndex(s, ":")
	_, text, isRange := strings.Cut(s[i+1:], "-")
	if !isRange {
		text = s[i+1:]
	}
	_, _ = fmt.Sscan(text, &last)
	return s[:i], last, !isRange
}

// dhcpOf is what DHCP tells by a configuration.
func dhcpOf(n *daemon.NAT) *answer {
	for _, p := range n.Without {
		if p.String() == "dhcp" {
			return nil
		}
	}
	router := n.Routers[0]
	a := &answer{
		Address: n.GuestAddresses[0].String(), Mask: net.IP(net.CIDRMask(n.Network.Bits(), 32)).String(), Router: router.String(),
		Search: n.Search, MTU: n.MTU, Hostname: n.Hostname,
	}
	for _, d := range ofVersion(n.NameServers, true) {
		a.DNS = append(a.DNS, d.String())
	}
	if !n.Network.Contains(router) { // see package dhcp4
		b := router.As4()
		a.Routes = fmt.Sprintf("20%x0000000000%x", b, b)
	}
	for _, o := range n.Options {
		switch o.Code {
		case 26:
			a.MTU = 0
		case 81:
			a.FQDN = fmt.Sprintf("%x", o.Value)
		}
	}
	return a
}

// told are the lines of passt's start that vring prints, too.
func told(lines []string) (kept []string) {
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "MTU ") && strings.Contains(line, "too small"), strings.HasPrefix(line, "--stderr"),
			strings.HasPrefix(line, "Configuration socket"): // said otherwise, or of nothing that vring has
		case strings.HasPrefix(line, "Started as root"), strings.HasPrefix(line, "UNIX domain socket"), strings.HasPrefix(line, "You can"),
			strings.HasPrefix(line, "    kvm"), line == "Inbound forwarding rules (HOST):":
		default:
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return kept
}

// reasons are why vring does something else, by the command line.
func reasons() map[string]string {
	const (
		late   = "found when the port, the file or the descriptor is opened, after this"
		local  = "without a default route by it, passt leaves the guest without DHCP; vring gives it an address of a link"
		six    = "without an address that could be the guest's, vring leaves IPv6 out; passt advertises a router and no prefix"
		asRoot = "vring does not serve as root, or in its group, where it is asked to be somebody else; passt cannot, or serves"
		bound  = "vring has 65520 in all modes; passt 65521 without vhost-user, where it does not fit IPv4's segments"
	)
	return map[string]string{
		"-m 65521":                        bound,
		"-m -1":                           "vring says that it is no number",
		"-m 1279":                         "below an MTU of 1280 vring leaves IPv6 out; passt warns",
		"-m 67":                           "an MTU below 576 is refused, in vring's words",
		"-i int0":                         local,
		"-i lo":                           local,
		"-t 22 -t 23":                     late + ": passt has lost its rights by then; vring as root has not",
		"-t 203.0.113.9/80":               late,
		"--freebind -t 203.0.113.9/80":    late + ": passt has lost its rights by then; vring as root has not",
		"-t 127.0.0.1%none7/8080:80":      late,
		"-t 127.0.0.1/all:10.5.0.9":       late + ": passt's sockets are more than the process may open",
		"-t ::1/~1024-65535":              late + ": passt has lost its rights by then; vring as root has not",
		"--runas 0":                       asRoot,
		"--runas \"\"":                    asRoot,
		"--runas :1000":                   asRoot,
		"--runas 1000:":                   asRoot,
		"--runas 1000:0":                  asRoot,
		"--runas -1":                      "vring says that it is no user",
		"--runas 99999999999":             "passt takes the last 32 bits for the user's number",
		"--conf-path /no/such/dir/c.sock": "vring makes no such socket",
		"--vhost-user --repair-path /no/such/dir/r.sock": "vring makes no such socket",
		"-F 99":                  late,
		"-s /no/such/dir/s.sock": late,
		"-P /no/such/dir/p.pid":  late,
		"-l /no/such/dir/l.log":  late,
		"--vhost-user --one-off --interface lo --tcp-ports 2222:22": six,
	}
}

func TestPasstsCommandLinesMeanWhatTheyMeanToPasst(t *testing.T) {
	text, err := os.ReadFile("testdata/recorded.json")
	require.NoError(t, err)
	var all []record
	require.NoError(t, json.Unmarshal(text, &all))
	require.GreaterOrEqual(t, len(all), 120)
	why := reasons()
	for _, r := range all {
		got := run(r.Line)
		if d := differs(&r, &got); d != "" && why[r.Line] == "" {
			t.Errorf("%s\n  %s", r.Line, d)
		} else if d == "" && why[r.Line] != "" {
			t.Errorf("%s: it is equal, and the list says that it is not: %s", r.Line, why[r.Line])
		}
	}
}

// differs says what vring does otherwise, "" for nothing.
func differs(r *record, got *outcome) string {
	want := outcome{serves: r.Serves, status: r.Status, sockets: r.Sockets, dhcp: r.DHCP, text: told(r.Stderr)}
	got.text = told(got.text)
	switch {
	case got.serves != want.serves || got.status != want.status:
		return fmt.Sprintf("serves %v, status %d (%s); passt %v, %d (%q)", got.serves, got.status, got.fault, want.serves, want.status, want.text)
	case !got.serves:
		if got.fault != "" && !slices.ContainsFunc(want.text, func(line string) bool { return strings.Contains(line, got.fault) || strings.HasPrefix(got.fault, line) }) {
			return fmt.Sprintf("fault %q; passt %q", got.fault, want.text)
		}
		return ""
	case !slices.Equal(got.sockets, want.sockets):
		return fmt.Sprintf("sockets %q; passt %q", got.sockets, want.sockets)
	}
	g, _ := json.Marshal(got.dhcp)
	w, _ := json.Marshal(want.dhcp)
	if string(g) != string(w) {
		return fmt.Sprintf("DHCP %s; passt %s", g, w)
	}
	if quiet := strings.Contains(r.Line, "-q") || strings.Contains(r.Line, "--quiet") || strings.Contains(r.Line, "-l ") || strings.Contains(r.Line, "-d") || strings.Contains(r.Line, "--log-file"); !quiet && !slices.Equal(got.text, want.text) {
		return fmt.Sprintf("text %q; passt %q", got.text, want.text)
	}
	return ""
}
