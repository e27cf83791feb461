package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// controlled is a vring whose control socket is asked.
type controlled struct {
	t       *testing.T
	socket  string // of its first guest
	control string
	log     string // path of the file that it logs to
}

// startControlled starts vring with two guests, in its sandbox, and waits until it serves.
func startControlled(t *testing.T, args ...string) *controlled {
	dir := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	c := &controlled{t: t, socket: filepath.Join(dir, "vm0.sock"), control: filepath.Join(dir, "vm0.sock.ctl")}
	args = append([]string{"nat", "--socket-path", c.socket, "--socket-path", filepath.Join(dir, "vm1.sock")}, args...)
	cmd := exec.Command(os.Args[0], args...) // which the end of the test's context does not kill: it is to end well
	cmd.Env = append(os.Environ(), asProgram+"=1")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()
	cmd.Stderr, c.log = log, log.Name()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		require.NoError(t, cmd.Wait())
		require.NoFileExists(t, c.control)
	})
	c.logged("msg=ready")
	return c
}

// logged waits until vring has logged what matches an expression, and returns the parts of it.
func (c *controlled) logged(expression string) (parts []string) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		text, _ := os.ReadFile(c.log)
		parts = regexp.MustCompile(expression).FindStringSubmatch(string(text))
		return parts != nil
	}, time.Minute, 10*time.Millisecond)
	return parts
}

// ctl runs vring ctl for the vring that is meant.
func (c *controlled) ctl(args ...string) (status int, stdout, stderr string) {
	c.t.Helper()
	var out, errs strings.Builder
	status = run(c.t.Context(), append([]string{"ctl", "--control", c.control}, args...), &out, &errs)
	return status, out.String(), errs.String()
}

func TestARunningVringIsAsked(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run("sandbox "+mode, func(t *testing.T) {
			c := startControlled(t, "--sandbox", mode)
			status, stdout, stderr := c.ctl("status")
			require.Equal(t, exitOK, status, stderr)
			require.Regexp(t, `(?s)^vring devel, up .*GUEST +SOCKET +FRONT END.*10\.0\.2\.15 +`+c.socket+` +waiting +up +1 `, stdout)
			_, stdout, _ = c.ctl("guests", "10.0.2.16", "-o", "json")
			var guests []api.Guest
			require.NoError(t, json.Unmarshal([]byte(stdout), &guests))
			require.Len(t, guests, 1)
			require.Equal(t, "10.0.2.16", guests[0].Name)
			_, stdout, _ = c.ctl("counters", "10.0.2.15", "--all")
			require.Contains(t, stdout, "frames_in")
			require.NotContains(t, stdout, "10.0.2.16")
			_, stdout, _ = c.ctl("flows", "--direction", "in")
			require.Regexp(t, `^GUEST +PROTO +WAY .* AGE\n$`, stdout)
			_, stdout, _ = c.ctl("flows", c.socket, "-o", "json")
			require.Equal(t, "[]\n", stdout)
			_, stdout, _ = c.ctl("flows", "kill", "10.0.2.15", "--proto", "tcp")
			require.Equal(t, "0 flows ended\n", stdout)
			for _, state := range []string{"down", "up"} {
				_, stdout, _ = c.ctl("link", c.socket, state)
				require.Equal(t, "link "+state+"\n", stdout)
				_, stdout, _ = c.ctl("link", "10.0.2.15")
				require.Equal(t, "link "+state+"\n", stdout)
				_, stdout, _ = c.ctl("guests")
				require.Regexp(t, `(?m)^10\.0\.2\.15 .* waiting +`+state+` +1 `, stdout)
			}
			status, _, stderr = c.ctl("link", "10.0.2.15", "sideways")
			require.Equal(t, exitUsage, status)
			require.Contains(t, stderr, `"sideways" is no preset, nor KEY=VALUE`)
			require.Contains(t, stderr, "want up, down, none, or a link to be emulated")
			_, stdout, _ = c.ctl("link", "10.0.2.15", "lte,seed=7")
			require.Equal(t, "+ link: rate=12mbit,delay=35ms,seed=7\n", stdout)
			_, stdout, _ = c.ctl("link", "10.0.2.15")
			require.Equal(t, "link up\nemulates rate=12mbit,delay=35ms,seed=7\n", stdout)
			_, stdout, _ = c.ctl("link", "10.0.2.15", "none")
			require.Equal(t, "- link: rate=12mbit,delay=35ms,seed=7\n", stdout)
			_, stdout, _ = c.ctl("link", "10.0.2.15", "delay=1ms")
			require.Equal(t, "+ link: delay=1ms\n", stdout)
			_, stdout, _ = c.ctl("link", "10.0.2.15")
			require.Regexp(t, `^link up\nemulates delay=1ms\nwith the seed [0-9]+\n$`, stdout)
			_, stdout, _ = c.ctl("explain", "10.0.2.15", "tcp:10.0.2.2:22")
			require.Equal(t, "closed:     it is a service of the host, which is closed unless it is opened\n"+
				"opened by   --allow-host tcp:22\naddress of  the host's loopback\n", stdout)
			_, stdout, _ = c.ctl("explain", "10.0.2.15", "tcp:198.51.100.1:443") // from within the sandbox
			require.Regexp(t, `^allowed: +no rule matches.*\naddress of +the internet\nleads to +198\.51\.100\.1:443\n`, stdout)
			_, stdout, _ = c.ctl("explain", "10.0.2.15", "tcp:example.org:443")
			require.Regexp(t, `^allowed: +no rule by name matches.*answered no address.*\nmay ask +yes: the name server answers, for no rule is about the name\n$`, stdout)
		})
	}
}

func TestANameIsExplainedInATable(t *testing.T) {
	var b strings.Builder
	x := explanationReport{Allowed: true, Why: "it opens it", By: "--allow-name svc:443", Proof: []string{"tls", "http", "quic"}, Name: &api.NameExplained{
		MayAsk: true, Why: "a rule allows it", By: "--allow-name svc:443", More: 3, Addresses: []api.AddressExplained{
			{Address: "192.0.2.1", Allowed: true, Why: "it opens it", By: "--allow-name svc:443"}, {Address: "192.0.2.2", Why: "it is closed"},
		},
	}}
	x.print(&b)
	require.Equal(t, "allowed:    it opens it\n"+
		"decided by  --allow-name svc:443\n"+
		"must tell   the name in its TLS hello, or the name in each request of HTTP, or the name in its first packets of QUIC\n"+
		"may ask     yes: a rule allows it (--allow-name svc:443)\n"+
		"address     192.0.2.1, allowed: it opens it (--allow-name svc:443)\n"+
		"address     192.0.2.2, closed: it is closed\n"+
		"addresses   3 more\n", b.String())
	b.Reset()
	(&explanationReport{Why: "no rule allows it", Name: &api.NameExplained{Why: "no rule allows it"}}).print(&b)
	require.Equal(t, "closed:  no rule allows it\nmay ask  no: no rule allows it\n", b.String())
}

func TestWhatIsWrongWithAQuestionIsTold(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	for args, want := range map[string]string{
		"guests 10.0.2.99":                       `there is no guest "10.0.2.99"; there are ["10.0.2.15" "10.0.2.16"]`,
		"guests a b":                             `unexpected "b"; want one guest at most`,
		"status now":                             `unexpected "now"`,
		"stauts":                                 `unexpected "stauts"; did you mean vring ctl status?`,
		"status -o yaml":                         `--output "yaml": want table or json`,
		"status --socket-path /x":                "--control and --socket-path exclude each other",
		"status --watch=-1s":                     "--watch -1s: want a time above 0",
		"explain 10.0.2.15":                      `want a guest and a destination, as in`,
		"explain 10.0.2.15 tcp:192.0.2.1":        `to: "tcp:192.0.2.1": not an ip:port`,
		"explain 10.0.2.99 icmp:192.0.2.1":       `there is no guest "10.0.2.99"`,
		"explain a b c":                          `unexpected "c"`,
		"flows 10.0.2.99":                        `there is no guest "10.0.2.99"; there are ["10.0.2.15" "10.0.2.16"]`,
		"flows --sort size":                      `--sort "size": want one of ["age" "bytes" "rate"]`,
		"flows --state opne":                     `there is no state "opne"; there are ["associated"`,
		"flows --limit 0":                        "want 1 to 65536",
		"flows kill":                             "which guest? vring ctl guests lists them",
		"flows kill 10.0.2.15":                   "no flows are chosen",
		"flows kill 10.0.2.15 --all --watch":     "flows are ended once",
		"flows kill 10.0.2.15 --all --proto tcp": "exclude each other",
	} {
		status, _, stderr := c.ctl(strings.Fields(args)...)
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, stderr, want)
	}
	var out, errs strings.Builder
	status := run(t.Context(), []string{"ctl", "--control", c.control + "x", "status"}, &out, &errs)
	require.Equal(t, exitError, status)
	require.Contains(t, errs.String(), "no vring answers at "+c.control+"x")
}

func TestTheControlSocketIsFound(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	dir := filepath.Dir(c.socket)
	for _, socket := range []string{c.socket, filepath.Join(dir, "vm1.sock")} {
		path, err := (&ctl{socketPath: socket}).find()
		require.NoError(t, err)
		require.Equal(t, c.control, path)
	}
	_, err := (&ctl{socketPath: filepath.Join(dir, "vm2.sock")}).find()
	require.ErrorContains(t, err, "no vring with that guest has its control socket beside it")
	require.Contains(t, answering(usualSockets()), c.control)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file.ctl"), nil, 0o600))
	require.NotContains(t, usualSockets(), filepath.Join(dir, "file.ctl"))

	_, stdout, _ := runHere(t, "__complete", "ctl", "--control", c.control, "guests", "")
	require.Contains(t, stdout, "10.0.2.15\n10.0.2.16\n")
}

func TestCountersAreWatched(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := new(lines)
	out.after(3, cancel)
	require.Equal(t, exitOK, run(ctx, []string{"ctl", "--control", c.control, "counters", "--all", "--watch=10ms"}, out, out))
	require.Contains(t, out.String(), "PER SECOND")
}

// lines is what was printed. It calls a function when that many tables were.
type lines struct {
	strings.Builder
	tables int
	then   func()
}

func (l *lines) after(tables int, then func()) { l.tables, l.then = tables, then }

func (l *lines) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "GUEST") {
		if l.tables--; l.tables == 0 {
			l.then()
		}
	}
	return l.Builder.Write(p)
}

func TestThereIsNoControlSocketWhereNoneIsWanted(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "s")
	for _, args := range [][]string{
		{"--socket-path", socket, "--control", "off"}, {"--socket-path", socket, "--client"},
	} {
		status, _, stderr := runHere(t, append([]string{"nat", "--sandbox=off"}, args...)...)
		require.Equal(t, exitOK, status, stderr)
		require.NotContains(t, stderr, "control socket")
	}
	status, _, stderr := runHere(t, "nat", "--sandbox=off", "--socket-path", socket)
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stderr, `msg="control socket" path=`+socket+".ctl")
	require.NoFileExists(t, socket+".ctl")

	require.NoError(t, os.WriteFile(socket+".ctl", nil, 0o600))
	status, _, stderr = runHere(t, "nat", "--sandbox=off", "--socket-path", socket)
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stderr, "there is no control socket; --control PATH makes one elsewhere")
	require.Contains(t, stderr, "exists and is not a socket")
	status, _, stderr = runHere(t, "nat", "--sandbox=off", "--socket-path", socket, "--control", socket+".ctl")
	require.Equal(t, exitUsage, status, stderr)
	require.Contains(t, stderr, "--control: "+socket+".ctl exists and is not a socket")
	_, _, stderr = runHere(t, "nat", "--sandbox=off", "--socket-path", socket, "--control", socket)
	require.Contains(t, stderr, "is a guest's socket")
}
