package gvproxy

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
)

// The network, as gvproxy has it.
const (
	network    = "192.168.127.0/24"
	gateway    = "192.168.127.1"
	gatewayMAC = "5a:94:ef:e4:0c:dd"
	guest      = "192.168.127.2"
	guestMAC   = "5a:94:ef:e4:0c:ee"
	host       = "192.168.127.254"
)

// Command is a command line of gvproxy.
type Command struct {
	Version  bool
	Debug    bool
	Endpoint []string // URLs at which the API is answered
	GuestAPI bool     // it is answered to the guest as well, at port 80 of the gateway
	MTU      int
	SSHPort  int
	PIDFile  string
	LogFile  string
	Forwards []SSHForward

	socket string // of the front end
	kind   string // value of --front-end, "" for vhost-user
}

// SSHForward is a unix socket of the host that leads to one of the guest, over SSH.
type SSHForward struct{ Socket, Dest, User, Identity string }

// list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set appends a value.
func (l *list) Set(text string) error {
	*l = append(*l, text)
	return nil
}

// sockets are the flags that name the front end's socket, with the scheme that it must have, "" for a path too, and the kind of front end.
var sockets = []struct{ flag, scheme, kind, usage string }{
	{"listen-qemu", "unix", "stream", "Socket to be used by Qemu"},
	{"listen-bess", "unixpacket", "bess", "unixpacket socket to be used by Bess-compatible applications"},
	{"listen-vhost-user", "unix", "", "vring's own: unix socket of a vhost-user front end, which is the fastest"},
	{"listen-vfkit", "unixgram", "vfkit", "unixgram socket to be used by vfkit-compatible applications"},
	{"listen-vpnkit", "", "", "VPNKit socket to be used by Hyperkit"},
	{"listen-stdio", "", "", "accept stdio pipe"},
}

// Parse reads the words behind the program's name. Usage is printed to out.
func Parse(words []string, out io.Writer) (*Command, error) {
	c := &Command{}
	f := flag.NewFlagSet("gvproxy", flag.ContinueOnError)
	f.SetOutput(out)
	var endpoints, services, forwardSock, forwardDest, forwardUser, forwardIdentity list
	given := make([]string, len(sockets))
	f.BoolVar(&c.Version, "version", false, "Print version information")
	f.BoolVar(&c.Debug, "debug", false, "Print debug info")
	f.Var(&endpoints, "listen", "control endpoint: unix:// or tcp://")
	f.Var(&services, "services", "the same")
	f.BoolVar(&c.GuestAPI, "guest-api", false, "vring's own: answer the API to the guest as well, at http://gateway.containers.internal; gvproxy always does")
	for i, s := range sockets {
		f.StringVar(&given[i], s.flag, "", s.usage)
	}
	f.IntVar(&c.MTU, "mtu", 1500, "Set the MTU")
	f.IntVar(&c.SSHPort, "ssh-port", 2222, "Port to access the guest virtual machine. Must be between 1024 and 65535")
	f.StringVar(&c.PIDFile, "pid-file", "", "Generate a file with the PID in it")
	f.StringVar(&c.LogFile, "log-file", "", "Output log messages to a given file path")
	f.Var(&forwardSock, "forward-sock", "Forwards a unix socket to the guest virtual machine over SSH")
	f.Var(&forwardDest, "forward-dest", "Forwards a unix socket to the guest virtual machine over SSH")
	f.Var(&forwardUser, "forward-user", "SSH user to use for unix socket forward")
	f.Var(&forwardIdentity, "forward-identity", "Path to SSH identity key for forwarding")
	if err := f.Parse(words); err != nil {
		return nil, err
	}
	if c.Version {
		return c, nil
	}
	c.Endpoint = append(endpoints, services...)
	return c, errors.Join(c.setSocket(given), c.setForwards(forwardSock, forwardDest, forwardUser, forwardIdentity), c.check(f.Args()))
}

// check returns what is wrong with values, and with words that are no flags.
func (c *Command) check(rest []string) error {
	var errs []error
	if c.SSHPort < 1024 || c.SSHPort > 65535 {
		errs = append(errs, errors.New("ssh-port value must be between 1024 and 65535"))
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected %q: all options of gvproxy are flags", rest[0]))
	}
	for _, text := range c.Endpoint {
		if _, _, err := splitEndpoint(text); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// setSocket finds out where the front end is met.
func (c *Command) setSocket(given []string) error {
	found := ""
	for i, s := range sockets {
		switch {
		case given[i] == "":
			continue
		case found != "":
			return fmt.Errorf("-%s and -%s exclude each other: one guest is served", found, s.flag)
		case s.scheme == "":
			return fmt.Errorf("-%s: vring serves -listen-qemu, -listen-bess, -listen-vfkit and -listen-vhost-user; use one of them", s.flag)
		}
		u, err := url.Parse(given[i])
		if err != nil || u.Path == "" || u.Scheme != s.scheme && u.Scheme != "" {
			return fmt.Errorf("-%s %s: want %s:///PATH", s.flag, given[i], s.scheme)
		}
		found, c.socket, c.kind = s.flag, u.Path, s.kind
	}
	if found == "" {
		return errors.New("no socket for the guest; write -listen-qemu unix:///PATH")
	}
	return nil
}

// setForwards puts the four flags of each forward over SSH together.
func (c *Command) setForwards(socks, dests, users, identities []string) error {
	if len(dests) != len(socks) || len(users) != len(socks) || len(identities) != len(socks) {
		return errors.New("-forward-sock, --forward-dest, --forward-user, and --forward-identity must all be specified together, " +
			"the same number of repetitions")
	}
	for i := range socks {
		c.Forwards = append(c.Forwards, SSHForward{socks[i], dests[i], users[i], identities[i]})
	}
	return nil
}

// splitEndpoint returns network and address of an endpoint of the API.
func splitEndpoint(text string) (kind, address string, err error) {
	u, err := url.Parse(text)
	switch {
	case err == nil && u.Scheme == "unix" && u.Path != "":
		return "unix", u.Path, nil
	case err == nil && u.Scheme == "tcp" && u.Host != "":
		return "tcp", u.Host, nil
	}
	return "", "", fmt.Errorf("-listen %s: want unix:///PATH or tcp://ADDRESS:PORT", text)
}

// Options are the options of "vring nat" that make the network of c, but for its control socket. guestAPI is where the API is answered to the
// guest, if it is.
func (c *Command) Options(guestAPI netip.AddrPort) []string {
	options := []string{
		"--socket-path=" + c.socket, "--network=" + network, "--network6=off", "--router=" + gateway, "--router-mac=" + gatewayMAC,
		"--dns-relay=" + gateway, "--guest-address=" + guest, fmt.Sprintf("--mtu=%d", c.MTU), "--redirect=" + host + "=127.0.0.1", "--expose",
		fmt.Sprintf("--forward=127.0.0.1:%d:%s:22", c.SSHPort, guest),
	}
	if c.kind != "" {
		options = append(options, "--front-end="+c.kind, "--one-off")
	}
	for _, z := range usualZones() {
		for _, name := range z.names() {
			options = append(options, "--dns-name="+name)
		}
	}
	if guestAPI.IsValid() {
		options = append(options, fmt.Sprintf("--redirect=tcp:%s:80=%s", gateway, guestAPI))
	}
	level := "warn"
	if c.Debug {
		level = "debug"
	}
	return append(options, "--log-level="+level)
}

// Told are sentences that say at the start what is open, by gvproxy's habit, that is closed by vring's own.
func (c *Command) Told() []string {
	told := []string{
		"the guest reaches all services of the host's loopback at " + host + ", as with gvproxy",
		"what is exposed without an address can be reached by other machines, as with gvproxy",
	}
	if c.GuestAPI {
		return append(told, "the guest may open ports of the host: it has the API at http://"+gateway)
	}
	return append(told, "the guest does not have the API at http://"+gateway+"; -guest-api gives it, as gvproxy does")
}
