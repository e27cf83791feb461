package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Record is what became of one command line.
type Record struct {
	Line    string   `json:"line"`
	Serves  bool     `json:"serves,omitempty"` // a guest can connect
	Status  int      `json:"status"`
	Output  string   `json:"output,omitempty"`  // standard output, its first line
	Stderr  []string `json:"stderr,omitempty"`  // of one that does not serve the first lines, else all
	Sockets []string `json:"sockets,omitempty"` // that are listened on, ranges of ports together
	DHCP    *Answer  `json:"dhcp,omitempty"`
}

// Answer is what DHCP tells a guest.
type Answer struct {
	Address  string   `json:"address"`
	Mask     string   `json:"mask"`
	Router   string   `json:"router,omitempty"`
	DNS      []string `json:"dns,omitempty"`
	Search   []string `json:"search,omitempty"`
	MTU      int      `json:"mtu,omitempty"`
	Hostname string   `json:"hostname,omitempty"`
	Routes   string   `json:"routes,omitempty"` // option 121
	FQDN     string   `json:"fqdn,omitempty"`   // option 81
}

const resolvConf = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch lab.example corp.example\n"

func main() {
	out := flag.String("o", "", "file to write (default: standard output)")
	program := flag.String("program", "/usr/bin/passt", "program to run, by its path")
	flag.Parse()
	if err := record(flag.Arg(0), *program, *out); err != nil {
		fmt.Fprintln(os.Stderr, "passtrecorder:", err)
		os.Exit(1)
	}
}

// record runs all command lines of a file.
func record(list, program, out string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	n, err := host()
	if err != nil {
		return err
	}
	defer n.Close()
	var all []Record
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := runOne(n, program, line)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		all = append(all, r)
		fmt.Fprintf(os.Stderr, "%-40s status %d, serves %v, %d sockets\n", line, r.Status, r.Serves, len(r.Sockets))
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	if err := e.Encode(all); err != nil {
		return err
	}
	if out == "" {
		_, err = fmt.Print(b.String())
		return err
	}
	return os.WriteFile(out, []byte(b.String()), 0o644)
}

// host is a namespace with an interface that has the default routes, and one that has none.
func host() (*netns.Namespace, error) {
	n, err := netns.New()
	if err != nil {
		return nil, err
	}
	for _, line := range []string{
		"ip link add ext0 type veth peer name ext1", "ip link set ext1 up", "ip link set ext0 address 02:00:00:00:00:02", "ip link set ext0 up",
		"ip addr add 192.0.2.2/24 dev ext0", "ip route add default via 192.0.2.1",
		"ip -6 addr add 2001:db8::2/64 dev ext0 nodad", "ip -6 route add default via fe80::1 dev ext0",
		"ip link add int0 type veth peer name int1", "ip link set int0 up", "ip link set int1 up", "ip addr add 198.51.100.2/24 dev int0",
	} {
		if _, err := n.Run(line); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// words takes a line apart. "" is an empty word.
func words(line string) (all []string) {
	for _, w := range strings.Fields(line) {
		all = append(all, strings.ReplaceAll(w, `""`, ""))
	}
	return all
}

// runOne runs the program with one command line.
func runOne(n *netns.Namespace, program, line string) (r Record, err error) {
	r.Line = line
	dir, err := os.MkdirTemp("", "r")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte(resolvConf), 0o644)); err != nil {
		return r, err
	}
	var stdout, stderr strings.Builder
	cmd := exec.Command(program, append([]string{"-s", "s.sock"}, words(line)...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, &stdout, &stderr, time.Second
	if err := start(n, cmd, filepath.Join(dir, "resolv.conf")); err != nil {
		return r, err
	}
	defer killAll()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	socket := filepath.Join(dir, "s.sock")
	select {
	case <-ended:
		r.Status = cmd.ProcessState.ExitCode()
	case <-time.After(1500 * time.Millisecond): // it is to stay in the foreground
	}
	r.Serves = isListened(n, socket)
	if r.Serves {
		r.Sockets, err = sockets(n)
		if err == nil && !strings.Contains(line, "--vhost-user") {
			r.DHCP = ask(socket)
		}
	}
	killAll()
	select {
	case <-ended:
	default:
	}
	time.Sleep(20 * time.Millisecond)
	r.Output, _, _ = strings.Cut(stdout.String(), "\n")
	r.Stderr = told(stderr.String(), r.Serves)
	return r, err
}

// told are the lines of standard error without what differs from run to run, and without the list of options.
func told(text string, serves bool) (lines []string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "Usage:") || strings.HasPrefix(line, "You can now start") || len(lines) > 40 {
			break
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	if !serves && len(lines) > 6 {
		lines = lines[len(lines)-6:]
	}
	return lines
}

// start starts a program in the namespace and in the userland, with a resolv.conf of its own.
func start(n *netns.Namespace, cmd *exec.Cmd, resolv string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := n.Enter()
		if err == nil {
			err = userland.Forky.Thread(nil)()
		}
		if err == nil {
			err = unix.Mount(resolv, "/etc/resolv.conf", "", unix.MS_BIND, "")
		}
		if err == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}

// killAll ends all processes that were started: those that have gone to the background are children of this one, too.
func killAll() {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ") // state, parent
		if f := strings.Fields(rest); len(f) < 2 || f[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	}
}

// isListened reports whether somebody listens on a unix socket.
func isListened(n *netns.Namespace, path string) bool {
	listens := false
	_ = n.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/unix")
		const listening = "00010000"
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 8 && f[3] == listening && filepath.Base(f[7]) == filepath.Base(path) {
				listens = true
			}
		}
		return err
	})
	return listens
}

// sockets are those that are listened on, as "tcp 0.0.0.0:8000-8010".
func sockets(n *netns.Namespace) (all []string, err error) {
	ports := map[string][]int{}
	err = n.Do(func() error {
		for _, proto := range []string{"tcp", "udp"} {
			for _, file := range []string{proto, proto + "6"} {
				text, err := os.ReadFile("/proc/thread-self/net/" + file)
				if err != nil {
					return err
				}
				for line := range strings.Lines(string(text)) {
					if a, ok := listened(line, proto); ok {
						key := proto + " " + a.Addr().String()
						ports[key] = append(ports[key], int(a.Port()))
					}
				}
			}
		}
		return nil
	})
	for key, list := range ports {
		slices.Sort(list)
		for i := 0; i < len(list); {
			last := i
			for last+1 < len(list) && list[last+1] == list[last]+1 {
				last++
			}
			text := fmt.Sprintf("%s:%d", key, list[i])
			if last > i {
				text += fmt.Sprintf("-%d", list[last])
			}
			all, i = append(all, text), last+1
		}
	}
	slices.Sort(all)
	return all, err
}

// listened reads a line of /proc/net/tcp and its like.
func listened(line, proto string) (a netip.AddrPort, ok bool) {
	f := strings.Fields(line)
	if len(f) < 4 || proto == "tcp" && f[3] != "0A" || proto == "udp" && f[3] != "07" {
		return a, false
	}
	hexAddr, hexPort, found := strings.Cut(f[1], ":")
	port, err := strconv.ParseUint(hexPort, 16, 16)
	if !found || err != nil {
		return a, false
	}
	b := make([]byte, len(hexAddr)/2)
	for i := 0; i+8 <= len(hexAddr); i += 8 {
		word, err := strconv.ParseUint(hexAddr[i:i+8], 16, 32)
		if err != nil {
			return a, false
		}
		binary.NativeEndian.PutUint32(b[i/2:], uint32(word))
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr, uint16(port)), ok
}

// ask asks for an address by DHCP, over QEMU's stream protocol. It returns nil if nothing is answered.
func ask(socket string) *Answer {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil
	}
	defer conn.Close()
	mac := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithBroadcast(true))
	if err != nil {
		return nil
	}
	frame := discover(mac, m.ToBytes())
	for range 4 { // the first one may come before it is taken
		_, _ = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
		_ = conn.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
		if a := answer(bufio.NewReader(conn)); a != nil {
			return a
		}
	}
	return nil
}

// discover is a frame with a DHCP message.
func discover(mac net.HardwareAddr, payload []byte) []byte {
	b := make([]byte, 14+20+8+len(payload))
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(mac), DstAddr: tcpip.LinkAddress("\xff\xff\xff\xff\xff\xff"), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(b[14:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(b) - 14), TTL: 64, Protocol: 17, DstAddr: tcpip.AddrFrom4([4]byte{255, 255, 255, 255})})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.UDP(b[34:]).Encode(&header.UDPFields{SrcPort: 68, DstPort: 67, Length: uint16(8 + len(payload))})
	copy(b[42:], payload)
	return b
}

// answer reads frames until one is an answer by DHCP.
func answer(in *bufio.Reader) *Answer {
	for {
		var length uint32
		if binary.Read(in, binary.BigEndian, &length) != nil || length > 1<<16 {
			return nil
		}
		frame := make([]byte, length)
		if _, err := io.ReadFull(in, frame); err != nil {
			return nil
		}
		if len(frame) < 42 || frame[12] != 8 || frame[23] != 17 || binary.BigEndian.Uint16(frame[36:]) != 68 {
			continue
		}
		m, err := dhcpv4.FromBytes(frame[42:])
		if err != nil {
			continue
		}
		return read(m)
	}
}

func read(m *dhcpv4.DHCPv4) *Answer {
	a := &Answer{Address: m.YourIPAddr.String(), Mask: net.IP(m.SubnetMask()).String(), Hostname: m.HostName()}
	for _, r := range m.Router() {
		a.Router = r.String()
	}
	for _, d := range m.DNS() {
		a.DNS = append(a.DNS, d.String())
	}
	if s := m.DomainSearch(); s != nil {
		a.Search = s.Labels
	}
	if mtu := m.Options.Get(dhcpv4.OptionInterfaceMTU); len(mtu) == 2 {
		a.MTU = int(binary.BigEndian.Uint16(mtu))
	}
	a.Routes = fmt.Sprintf("%x", m.Options.Get(dhcpv4.OptionClasslessStaticRoute))
	a.FQDN = fmt.Sprintf("%x", m.Options.Get(dhcpv4.OptionFQDN))
	return a
}
