package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/porttest"
)

// requireCtl runs vring ctl, which must succeed, and returns what it prints.
func (c *controlled) requireCtl(args ...string) string {
	c.t.Helper()
	status, stdout, stderr := c.ctl(args...)
	require.Equal(c.t, exitOK, status, "%v: %s", args, stderr)
	return stdout
}

// requireListens checks whether somebody listens at a port of the loopback. There is no guest, so a connection may be reset at once.
func requireListens(t *testing.T, port uint16, want bool) {
	t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.Equal(t, want, !errors.Is(err, syscall.ECONNREFUSED), err)
	if err == nil {
		require.NoError(t, c.Close())
	}
}

func TestARunningVringIsChanged(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run("sandbox "+mode, func(t *testing.T) {
			c := startControlled(t, "--sandbox", mode, "--dns", "192.0.2.53")
			first, second := porttest.FreePort(t).Port(), porttest.FreePort(t).Port()
			text := func(port uint16, guest string) string { return fmt.Sprintf("tcp:127.0.0.1:%d:%s:80", port, guest) }
			require.Equal(t, fmt.Sprintf("+ forwards: tcp:127.0.0.1:%d:80\n+ forwards: %s\n", first, text(second, "10.0.2.16")),
				c.requireCtl("forward", "add", fmt.Sprintf("%d:80", first), fmt.Sprintf("%d:10.0.2.16:80", second)))
			requireListens(t, first, true)
			requireListens(t, second, true)
			require.Regexp(t, `^GUEST +FORWARD\n10\.0\.2\.15 +`+text(first, "10.0.2.15")+`\n10\.0\.2\.16 +`+text(second, "10.0.2.16")+`\n$`, c.requireCtl("forward", "list"))
			require.NotContains(t, c.requireCtl("forward", "list", filepath.Join(filepath.Dir(c.socket), "vm1.sock")), "10.0.2.15")
			require.Contains(t, c.requireCtl("config", "diff"), fmt.Sprintf("now, beside the flags of the start:\n+ forwards: tcp:127.0.0.1:%d:80\n", first))
			require.Contains(t, c.requireCtl("config", "show"), fmt.Sprintf("    - \"tcp:127.0.0.1:%d:80\"\n", first))

			c.requireCtl("forward", "remove", fmt.Sprintf("%d:80", first))
			requireListens(t, first, false)
			require.Contains(t, c.requireCtl("forward", "replace", "--guest", "10.0.2.16", fmt.Sprintf("%d:81", second)), "since another one needed its place")
			require.Contains(t, c.requireCtl("forward", "replace", "--none"), fmt.Sprintf("- forwards: tcp:127.0.0.1:%d:10.0.2.16:81\n", second))
			requireListens(t, second, false)
			require.Contains(t, c.requireCtl("forward", "replace", "--none"), "nothing has changed")

			require.Equal(t, "+ allow-host: tcp:5432\n+ rules: allow: 192.0.2.1/32:443\n+ rules: deny: 192.0.2.0/24\n- restrict: false\n+ restrict: true\n",
				c.requireCtl("policy", "replace", "--allow", "192.0.2.1:443", "--deny", "192.0.2.0/24", "--restrict", "--allow-host", "tcp:5432"))
			require.Regexp(t, `- +allow-host +tcp:5432 +- +- +- +-\n1 +allow +192\.0\.2\.1/32:443 +0 +0 +0 +-\n2 +deny +192\.0\.2\.0/24 +0 +0 +0 +-\nlast +otherwise +closed \(restrict\) +0 +0 +0 +-`, c.requireCtl("policy", "show"))
			var p api.Policy
			require.NoError(t, json.Unmarshal([]byte(c.requireCtl("policy", "show", "-o", "json")), &p))
			require.True(t, p.Restrict)
			require.Contains(t, c.requireCtl("policy", "replace", "--restrict", "--via", "socks5://me:secret@192.0.2.1:1080"), "+ via: socks5://me:***@192.0.2.1:1080\n")
			require.NotContains(t, c.requireCtl("policy", "replace", "--restrict=false"), "via", "it stays")
			require.Contains(t, c.requireCtl("policy", "show", "-o", "json"), "via=socks5://me:***@192.0.2.1:1080")
			require.Contains(t, c.requireCtl("policy", "replace", "--restrict=false", "--via", ""), "- via: socks5://me:***@192.0.2.1:1080\n")
			c.requireCtl("policy", "replace", "--restrict=false")
			require.Contains(t, c.requireCtl("policy", "show"), "link-local addresses is open")

			require.Equal(t, "- log-level: info\n+ log-level: debug\n", c.requireCtl("log-level", "debug"))
			require.Equal(t, "debug\n", c.requireCtl("log-level"))
			c.requireCtl("log-level", "info")
			require.Equal(t, "it is as the flags of the start say\n", c.requireCtl("config", "diff"))
		})
	}
}

func TestWhatIsWrongWithAChangeIsTold(t *testing.T) {
	c := startControlled(t, "--sandbox", "on", "--dns", "192.0.2.53")
	for args, want := range map[string]string{
		"forward add":                               "want a forward, as in vring ctl forward add 8080:80",
		"forward ad":                                `unexpected "ad"; did you mean vring ctl forward add?`,
		"forward add 8080":                          "a guest port is needed as well; write -p 8080:8080",
		"forward add 8080:80 8080:81":               "both want port 8080",
		"forward add 0.0.0.0:8080:80":               "0.0.0.0 is not of the loopback",
		"forward add 8080:10.0.2.99:80":             "no guest has the address 10.0.2.99",
		"forward add --guest 10.0.2.99 1:2":         `there is no guest "10.0.2.99"; there are ["10.0.2.15" "10.0.2.16"]`,
		"forward add --watch 8080:80":               "--watch is for what is looked at",
		"forward remove 8080:80":                    "there is no forward tcp:127.0.0.1:8080:10.0.2.15:80; there are none",
		"forward replace":                           "--none removes all",
		"forward replace --none 1:2":                "exclude each other",
		"policy replace":                            "no policy is given",
		"policy replace --via socks4://192.0.2.1:1": "vring speaks SOCKS 5 only",
		"policy replace --deny 10.0.2.0/25":         "that is the guest's own network",
		"policy replace --deny a --allow-host b":    "2 things are wrong",
		"log-level loud":                            `log-level "loud": want debug, info, warn or error`,
		"log-level info warn":                       "want one level at most",
		"reload":                                    "was started with flags",
		"config shw":                                `did you mean vring ctl config show?`,
	} {
		status, stdout, stderr := c.ctl(strings.Fields(args)...)
		require.Equal(t, exitUsage, status, "%s: %s", args, stdout)
		require.Contains(t, stderr, want, args)
	}
	require.Equal(t, "it is as the flags of the start say\n", c.requireCtl("config", "diff"))
}

func TestForwardsAreCompleted(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	first, second := porttest.FreePort(t).Port(), porttest.FreePort(t).Port()
	c.requireCtl("forward", "add", fmt.Sprintf("%d:80", first), fmt.Sprintf("%d:80", second))
	text := fmt.Sprintf("tcp:127.0.0.1:%d:10.0.2.15:80\n", first)
	_, stdout, _ := runHere(t, "__complete", "ctl", "--control", c.control, "forward", "remove", "")
	require.Contains(t, stdout, text)
	_, stdout, _ = runHere(t, "__complete", "ctl", "--control", c.control, "forward", "remove", strings.TrimSpace(text), "")
	require.NotContains(t, stdout, text)
	require.Contains(t, stdout, fmt.Sprintf("tcp:127.0.0.1:%d:10.0.2.15:80\n", second))
	_, stdout, _ = runHere(t, "__complete", "ctl", "--control", c.control, "forward", "add", "--guest", "")
	require.Contains(t, stdout, "10.0.2.15\n10.0.2.16\n")
	_, stdout, _ = runHere(t, "__complete", "ctl", "log-level", "")
	require.Contains(t, stdout, "debug\ninfo\nwarn\nerror\n")
}

// The file is read again at the control socket and by the signal, and what was changed meanwhile is told in the log and in the answer.
func TestWhatAReloadUndoesIsTold(t *testing.T) {
	const file = "guests: [{socket-path: DIR/s}]\nnat:\n  dns: [192.0.2.53]\n"
	r := startReloaded(t, file)
	defer r.stop()
	c := &controlled{t: t, control: filepath.Join(r.dir, "s.ctl")}
	port := porttest.FreePort(t).Port()
	text := fmt.Sprintf("tcp:127.0.0.1:%d:80", port)
	add := func() {
		c.requireCtl("forward", "add", text)
		requireLine(t, r.lines, "changed at the control socket")
		require.Contains(t, r.lines.Text(), `key=forwards added=`+text)
		requireListens(t, port, true)
	}
	add()
	require.Equal(t, "now, beside "+r.path+":\n+ forwards: "+text+"\n", c.requireCtl("config", "diff"))
	require.Contains(t, r.reload("goes back, since the file says otherwise"), "level=WARN")
	require.Contains(t, r.lines.Text(), "key=forwards added="+text)
	requireLine(t, r.lines, "changed=forwards")
	requireListens(t, port, false)

	add()
	require.Equal(t, "- forwards: "+text+"\nwhat was changed here goes back, since the file says otherwise:\n+ forwards: "+text+"\n", c.requireCtl("reload"))
	requireLine(t, r.lines, "goes back, since the file says otherwise")
	require.Equal(t, "it is as "+r.path+" says\n", c.requireCtl("config", "diff"))

	r.write(file + "  forwards:\n    - " + text + "\n")
	add()
	require.Contains(t, c.requireCtl("reload"), "nothing has changed", "the file has it, too")
	requireListens(t, port, true)

	r.write(file + "  restrct: true\n  mtu: x\n")
	status, _, stderr := c.ctl("reload")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, fmt.Sprintf("2 things are wrong:\n  %s:4:3: nat has no key \"restrct\"; did you mean restrict?\n  %s:5:8: mtu \"x\"", r.path, r.path))
	requireListens(t, port, true)
}

func TestThePolicyAsAPersonReadsItSaysHowRulesLeaveTheHost(t *testing.T) {
	way := "interface=wg0"
	var out strings.Builder
	(&policyReport{Restrict: true, Way: &way, Rules: []api.Rule{
		{Allow: "tcp:192.0.2.1/32:443;via=socks5://me:***@192.0.2.9:1080;interface=wg1"}, {AllowName: "tcp:good.example:443;verify=tls;redirect=127.0.0.1:8443;address=192.0.2.7"},
		{Deny: "192.0.2.0/24"},
	}}).print(&out)
	require.Equal(t, "RULE  VERDICT     DESTINATION                      BEGUN  DENIED  BYTES  WAY\n"+
		"1     allow       tcp:192.0.2.1/32:443             -      -       -      via=socks5://me:***@192.0.2.9:1080;interface=wg1\n"+
		"2     allow-name  tcp:good.example:443;verify=tls  -      -       -      redirect=127.0.0.1:8443;address=192.0.2.7\n"+
		"3     deny        192.0.2.0/24                     -      -       -      -\n"+
		"last  otherwise   closed (restrict)                -      -       -      interface=wg0\n", out.String())
}
