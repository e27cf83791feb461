package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// What was kept by a process that a guest has taken over opens nothing that the process could not have opened.
func TestWhatIsKeptOpensNoMoreThanTheProcessCould(t *testing.T) {
	dir := shortDir(t)
	n := DefaultNAT()
	start := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(dir, "a")}}, NAT: &n}
	exposed := start.Clone()
	setForwards(t, &exposed, "0.0.0.0:80:80", "unix:/run/vring-f/f:22")
	later := func(path string) func(*Config) {
		return func(c *Config) {
			c.Guests = append(c.Guests, Guest{Name: "later", SocketPath: path, Stub: &Stub{Mode: StubNull, Size: 60}})
		}
	}
	forwards := func(texts ...string) func(*Config) {
		return func(c *Config) { setForwards(t, c, texts...) }
	}
	writable := filepath.Join(dir, "anybody")
	require.NoError(t, os.Mkdir(writable, 0o700))
	require.NoError(t, os.Chmod(writable, 0o777))
	open := start.Clone()
	open.FrontEnds.SocketPaths = append(open.FrontEnds.SocketPaths, filepath.Join(writable, "b"))
	for name, c := range map[string]struct {
		start  Config
		change func(*Config)
		want   string
	}{
		"nothing":                      {start, func(*Config) {}, ""},
		"a forward of the loopback":    {start, forwards("8080:80", "udp:5353:53"), ""},
		"one to other machines":        {start, forwards("0.0.0.0:8080:80"), "is not of the loopback"},
		"one that the start had":       {exposed, forwards("0.0.0.0:8080:80"), ""},
		"a port that needs a right":    {start, forwards("127.0.0.1:80:80"), "port 80 is below"},
		"one beside one of the start":  {exposed, forwards("127.0.0.1:53:53"), ""},
		"a file":                       {start, forwards("unix:/etc/f:80"), "no forward of the start has a unix socket in this directory"},
		"a file beside another one":    {exposed, forwards("unix:/run/vring-f/g:22"), ""},
		"a fixed field":                {start, func(c *Config) { c.NAT.MTU = 9000 }, "mtu cannot change"},
		"no sandbox":                   {start, func(c *Config) { c.Sandbox = sandbox.Off }, "sandbox cannot change"},
		"a guest":                      {start, later(filepath.Join(dir, "later")), ""},
		"a guest elsewhere":            {start, later("/etc/later"), "no guest has its socket in /etc"},
		"a guest where anybody writes": {open, later(filepath.Join(writable, "later")), "not everybody may make files"},
		"rules":                        {start, func(c *Config) { c.NAT.Restrict = true }, ""},
		"a guest's forward": {start, func(c *Config) {
			own := DefaultNAT()
			own.Network = netip.MustParsePrefix("10.9.0.0/24")
			f, err := spec.ParseForward("0.0.0.0:8080:80")
			require.NoError(t, err)
			own.Forwards = []spec.Forward{f}
			c.Guests = append(c.Guests, Guest{SocketPath: filepath.Join(dir, "later"), NAT: &own})
		}, "is not of the loopback"},
		"a guest with a TAP device": {start, func(c *Config) {
			c.Guests = append(c.Guests, Guest{SocketPath: filepath.Join(dir, "later"), TAP: &TAP{Devices: []string{"tap0"}, Queues: 1}})
		}, "cannot have a TAP device"},
		"too many guests": {start, func(c *Config) {
			for i := range MaxLater + 1 {
				later(filepath.Join(dir, string(rune('a'+i%26))+string(rune('a'+i/26))))(c)
			}
		}, "guests were added"},
	} {
		t.Run(name, func(t *testing.T) {
			now := c.start.Clone()
			c.change(&now)
			err := c.start.CheckKept(&now)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
	start.Sandbox = sandbox.Off
	now := start.Clone()
	setForwards(t, &now, "0.0.0.0:8080:80")
	require.NoError(t, start.CheckKept(&now), "without a sandbox the process can open anything")
}

// With and without a broker, a state is kept where the program says, until the daemon ends.
func TestAStateIsKept(t *testing.T) {
	t.Setenv(asProcess, "broker")
	for name, mode := range map[string]sandbox.Mode{"by the broker": sandbox.On, "in this process": sandbox.Off} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			p, events := program()
			go func() {
				for range events {
				}
			}()
			p.Broker, p.State = broker.Program(os.Args[0]), &broker.StateFile{Path: path, First: []byte("first")}
			config := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(shortDir(t), "a")}}, Stub: &Stub{Mode: StubNull, Size: 60}, Sandbox: mode}
			d := open(t, config, p)
			require.NoError(t, d.WriteState([]byte("second")))
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "second", string(text))
			require.NoError(t, d.SetLink(d.all()[0].name, false))
			require.Equal(t, []string{d.all()[0].name}, d.LinksDown())
			require.NoError(t, d.SetLink(d.all()[0].name, true))
			require.Empty(t, d.LinksDown())
			require.NoError(t, d.Close())
			require.Error(t, d.WriteState([]byte("third")))
		})
	}
}

func TestADaemonWhoseStateCannotBeKeptIsNotOpened(t *testing.T) {
	t.Setenv(asProcess, "broker")
	for _, mode := range []sandbox.Mode{sandbox.On, sandbox.Off} {
		p, _ := program()
		p.Broker, p.State = broker.Program(os.Args[0]), &broker.StateFile{Path: filepath.Join(t.TempDir(), "none", "state")}
		socket := filepath.Join(shortDir(t), "a")
		config := Config{FrontEnds: FrontEnds{SocketPaths: []string{socket}}, Stub: &Stub{Mode: StubNull, Size: 60}, Sandbox: mode}
		checked, err := config.Check()
		require.NoError(t, err)
		_, err = Open(checked, p)
		require.ErrorContains(t, err, "no such file or directory")
		require.NoFileExists(t, socket, "nothing is open")
	}
}
