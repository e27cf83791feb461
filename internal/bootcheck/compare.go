package bootcheck

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Peer is a program that gives a guest its network.
type Peer struct {
	Name    string
	Absent  error // why it is not compared, nil if it is
	prepare func(c *Config, dir string, forward endpoint, hostPort int) (network, error)
}

// Programs are those of the peers that are no part of QEMU, by their names or paths.
type Programs struct{ Passt, Gvproxy string }

// peer is how to compare with a program.
type peer struct {
	name    string
	absent  func(Programs) error // nil if it is there with QEMU
	prepare func(p Programs, c *Config, dir string, forward endpoint, hostPort int) (network, error)
}

// peers are all that there are, in the order in which they are compared.
var peers = []peer{
	{name: "vring", prepare: func(_ Programs, c *Config, _ string, forward endpoint, hostPort int) (network, error) {
		return c.vringNetwork(forward, hostPort, 1), nil
	}},
	{name: "qemu-user", prepare: userNetwork},
	{
		name:   "passt-vhost-user",
		absent: func(p Programs) error { return errors.Join(find(p.Passt), knowsVhostUser(p.Passt)) }, prepare: Programs.passtVhostUser,
	},
	{name: "passt-stream", absent: func(p Programs) error { return find(p.Passt) }, prepare: Programs.passtStream},
	{name: "gvproxy", absent: func(p Programs) error { return find(p.Gvproxy) }, prepare: Programs.gvproxyNetwork},
}

// PeerNames are the names of all peers, in the order in which they are compared.
func PeerNames() (names []string) {
	for i := range peers {
		names = append(names, peers[i].name)
	}
	return names
}

// Peers returns vring and programs that do the same, by their names, and looks whether they are there.
func Peers(programs Programs, names []string) (chosen []Peer, err error) {
	for _, name := range names {
		i := slices.Index(PeerNames(), name)
		if i < 0 {
			return nil, fmt.Errorf("there is no %q; there are %s", name, strings.Join(PeerNames(), ", "))
		}
		p := Peer{Name: name, prepare: func(c *Config, dir string, forward endpoint, hostPort int) (network, error) {
			return peers[i].prepare(programs, c, dir, forward, hostPort)
		}}
		if peers[i].absent != nil {
			p.Absent = peers[i].absent(programs)
		}
		chosen = append(chosen, p)
	}
	return chosen, nil
}

// find reports why a program cannot be compared with: it is not there, or it is vring under another's name.
func find(program string) error {
	if _, err := exec.LookPath(program); err != nil {
		return err
	}
	if version, _ := exec.Command(program, "--version").CombinedOutput(); bytes.Contains(version, []byte("vring")) {
		return fmt.Errorf("%s is vring in its place; name the program itself, such as %[1]s.distrib", program)
	}
	return nil
}

// knowsVhostUser reports why a passt cannot serve vhost-user, as those before 2025 cannot.
func knowsVhostUser(program string) error {
	help, _ := exec.Command(program, "--help").CombinedOutput() // older ones fail after the help
	if !bytes.Contains(help, []byte("--vhost-user")) {
		return errors.New("this version has no --vhost-user")
	}
	return nil
}

// card is the virtio network card of a guest. gvproxy gives the guest with this address the one that it forwards to.
const card = "virtio-net-pci,netdev=net,romfile=,mac=5a:94:ef:e4:0c:ee"

// userNetwork is QEMU's own network, libslirp.
func userNetwork(_ Programs, _ *Config, _ string, forward endpoint, _ int) (network, error) {
	return network{
		options: []string{"-netdev", fmt.Sprintf("user,id=net,hostfwd=tcp:%s-:%d", forward.address, Port), "-device", card},
		guest:   forward,
	}, nil
}

// passtOptions are for a guest that knows the host by its router, as passt's own default is, whatever the host's network.
func passtOptions(dir string, forward endpoint) []string {
	host, port, _ := net.SplitHostPort(forward.address) // it was made from a listener's
	return []string{
		"--foreground", "--one-off", "--quiet", "--socket", filepath.Join(dir, "passt"), "--address", "10.0.2.15", "--netmask", "24",
		"--gateway", "10.0.2.2", "--tcp-ports", fmt.Sprintf("%s/%s:%d", host, port, Port), "--udp-ports", "none",
	}
}

func (p Programs) passtVhostUser(c *Config, dir string, forward endpoint, _ int) (network, error) {
	card := card
	if !c.KVM {
		card += ",vectors=0" // QEMU 7.2 crashes otherwise, when it emulates the processor
	}
	program, err := startBackEnd(dir, append([]string{p.Passt, "--vhost-user"}, passtOptions(dir, forward)...), filepath.Join(dir, "passt"))
	return network{
		options: []string{
			"-object", "memory-backend-memfd,id=memory,size=512M,share=on", "-machine", "memory-backend=memory",
			"-chardev", "socket,id=passt,path=" + filepath.Join(dir, "passt"), "-netdev", "vhost-user,id=net,chardev=passt", "-device", card,
		},
		guest: forward, backEnd: program,
	}, err
}

func (p Programs) passtStream(_ *Config, dir string, forward endpoint, _ int) (network, error) {
	program, err := startBackEnd(dir, append([]string{p.Passt}, passtOptions(dir, forward)...), filepath.Join(dir, "passt"))
	return network{options: streamOptions(filepath.Join(dir, "passt")), guest: forward, backEnd: program}, err
}

// streamOptions are for a back end that takes frames from a stream.
func streamOptions(socket string) []string {
	return []string{"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path=" + socket, "-device", card}
}

// gvproxyHost is the address by which guests of gvproxy reach the host's loopback.
const gvproxyHost = "192.168.127.254"

func (p Programs) gvproxyNetwork(_ *Config, dir string, forward endpoint, _ int) (network, error) {
	socket, api := filepath.Join(dir, "gvproxy"), filepath.Join(dir, "api")
	ssh, err := freeEndpoint()
	if err != nil {
		return network{}, err
	}
	_, sshPort, _ := net.SplitHostPort(ssh.address)
	program, err := startBackEnd(dir, []string{
		p.Gvproxy, "-listen", "unix://" + api, "-listen-qemu", "unix://" + socket, "-ssh-port", sshPort,
	}, socket)
	n := network{options: streamOptions(socket), guest: forward, host: gvproxyHost, backEnd: program}
	if err != nil {
		return n, err
	}
	return n, expose(api, fmt.Sprintf(`{"local":%q,"remote":"192.168.127.2:%d"}`, forward.address, Port))
}

// expose asks gvproxy for a forward.
func expose(api, request string) error {
	client := http.Client{Timeout: stepWait, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", api)
	}}}
	defer client.CloseIdleConnections()
	answer, err := client.Post("http://gvproxy/services/forwarder/expose", "application/json", strings.NewReader(request))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, lineLimit))
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("gvproxy: %s: %s", answer.Status, text)
	}
	return nil
}

// startBackEnd starts a program and waits for its socket.
func startBackEnd(dir string, command []string, socket string) (*process, error) {
	p, err := start(dir, command)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(stepWait); ; {
		if _, err := os.Stat(socket); err == nil {
			return p, nil
		}
		select {
		case <-p.exited:
			return p, fmt.Errorf("%s has ended: %s", command[0], p.console.tail())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return p, fmt.Errorf("%s has made no socket in %v: %s", command[0], stepWait, p.console.tail())
		}
	}
}

// freeEndpoint returns a TCP port of the loopback that nobody has now.
func freeEndpoint() (endpoint, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return endpoint{}, err
	}
	return endpoint{"tcp", listener.Addr().String()}, listener.Close()
}

// Measured is how a guest's network did with one peer.
type Measured struct {
	Peer        string
	Err         error         // why there are no figures
	Lease       time.Duration // from QEMU's start to the lease
	MTU         int
	Out, In     float64 // streams, in Gbit/s
	Requests    float64 // per second, one after the other on one connection
	Connections float64 // per second, one after the other
}

// Compare boots the same guest with each peer, one after the other, and measures its network. The error is why nothing could be
// measured.
func Compare(ctx context.Context, c Config, peers []Peer) ([]Measured, error) {
	if err := usable(c.Kernel); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "vring-compare-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.Chmod(work, 0o711); err != nil { // passt makes its socket as nobody, if root starts it
		return nil, err
	}
	image := filepath.Join(work, "image")
	if err := writeImage(image, c.Vring, c.Modules); err != nil {
		return nil, err
	}
	var all []Measured
	for i, peer := range peers {
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		m := Measured{Peer: peer.Name, Err: peer.Absent}
		if peer.Absent == nil {
			dir := filepath.Join(work, fmt.Sprint(i))
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o1777)); err != nil {
				return all, err
			}
			c.tell(peer.Name)
			m.Err = c.measure(ctx, &m, peer, dir, image)
		}
		all = append(all, m)
	}
	return all, ctx.Err()
}

// measure boots the guest with one peer.
func (c *Config) measure(ctx context.Context, m *Measured, peer Peer, dir, image string) error {
	host, err := listen()
	if err != nil {
		return err
	}
	defer host.close()
	forward, err := freeEndpoint()
	if err != nil {
		return err
	}
	n, err := peer.prepare(c, dir, forward, host.port())
	if n.backEnd != nil {
		defer n.backEnd.end()
	}
	if err != nil {
		return err
	}
	quiet := *c
	quiet.Progress = nil
	begin := time.Now()
	machine, err := quiet.boot(ctx, dir, image, n)
	if err != nil {
		return err
	}
	defer machine.end()
	m.Lease = time.Since(begin)
	return m.take(c.Time, n, host)
}

// take measures a guest that is up.
func (m *Measured) take(wanted time.Duration, n network, host *sink) error {
	g, err := describe(n.guest)
	if err != nil {
		return err
	}
	m.MTU = g.MTU
	hostAddress := cmp.Or(n.host, g.Router)
	out, err := measure(wanted, func(bytes int64) (Received, error) { return sendOut(n.guest, host, hostAddress, bytes) })
	if err != nil {
		return fmt.Errorf("stream out: %w", err)
	}
	in, err := measure(wanted, func(bytes int64) (Received, error) { return sendIn(n.guest, bytes) })
	if err != nil {
		return fmt.Errorf("stream in: %w", err)
	}
	m.Out, m.In = out.gigabits(), in.gigabits()
	if m.Requests, err = countRequests(wanted, n.guest); err != nil {
		return fmt.Errorf("requests: %w", err)
	}
	if m.Connections, err = countConnections(wanted, n.guest); err != nil {
		return fmt.Errorf("connections: %w", err)
	}
	return nil
}
