package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
)

// writeConfig writes a configuration file, and returns its path.
func writeConfig(t *testing.T, text string) string {
	path := filepath.Join(shortDir(t), "vring.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// flagValues are values that flags may have, others than those by default.
func flagValues() map[string]string {
	return map[string]string{
		"socket-path": "/tmp/a", "client": "true", "front-end": "stream", "one-off": "true", "link": "lte,seed=3", "fd": "3", "socket-mode": "0660", "socket-group": "4321", "log-level": "debug",
		"log-format": "json", "sandbox": "log", "control": "/tmp/c", "metrics": "9100", "socks": "1080", "ui": "8000", "state": "/tmp/state", "audit-log": "/tmp/audit", "audit-off": "true", "learn": "/tmp/learned", "poll-us": "7", "cpus": "0",
		"forward": "8080:80", "allow-host": "tcp:1-9", "redirect": "tcp:192.0.2.1:80=127.0.0.1:8080", "expose": "true", "dns-name": "host@vring.internal=10.0.2.2", "allow": "192.0.2.1", "deny": "192.0.2.2", "restrict": "true", "network": "10.1.2.0/24",
		"allow-name": "*.example.org:443", "deny-name": ".example.net", "name-group": "work=testdata/names.txt", "refuse-names": "nxdomain",
		"via": "socks5://me:secret@192.0.2.1:1080", "outbound-interface": "wg0", "outbound-interface4": "wg4", "outbound-interface6": "wg6", "outbound-address": "192.0.2.7",
		"network6": "off", "mtu": "1400", "dns": "192.0.2.53", "dns-for": "corp.example=192.0.2.54", "dns-cache": "true", "measure": "true", "queues": "2", "udp-endpoint-independent": "true", "udp-filtering": "address-dependent",
		"guest-address": "10.0.2.16", "router": "10.0.2.1", "router-mac": "52:55:00:00:00:01", "dns-relay": "off", "name-server": "192.0.2.53",
		"shared-network": "true", "without": "ra", "multicast": "lo", "reconnect-grace": "5s", "hostname": "vm", "domain": "example.org", "search": "example.com",
		"lease": "52:54:00:12:34:56=10.0.2.50", "route": "192.168.7.0/24=10.0.2.50", "ntp": "192.0.2.123", "boot-server": "192.0.2.69",
		"boot-file": "a.kpxe", "tftp": "testdata", "dhcp-option": "44=192.0.2.1", "dhcp6-option": "31=2001:db8::1",
		"tap": "tap0", "bridge": "br0", "vlan": "3", "trunk": "20,30-39", "mac": "fe:54:00:12:34:56", "reopen": "true",
		"switch-name": "lan", "switch-uplink": "vxlan://192.0.2.2/42", "isolated": "true", "max-macs": "4", "ip": "192.0.2.1,fe80::/64", "flood": "100", "ageing": "60",
		"mode": "source", "size": "100", "sizes": "imix", "rate": "5",
	}
}

// Each flag that configures has a key: the file that a command line with it means is another one than without it, and means the
// same as the command line.
func TestEachFlagHasItsKey(t *testing.T) {
	values := flagValues()
	for _, n := range networkCommands() {
		n.cmd.InitDefaultHelpFlag()
		n.cmd.Flags().VisitAll(func(f *pflag.Flag) {
			value, known := values[f.Name]
			if f.Name == "help" || f.Name == "print-capabilities" {
				return
			}
			require.True(t, known, "vring %s --%s is not tried here", n.cmd.Name(), f.Name)
			without := []string{"--socket-path", "/tmp/a"}
			switch f.Name {
			case "socket-path", "fd":
				without = nil
			case "audit-off":
				without = append(without, "--audit-log", "/tmp/audit")
			case "size", "sizes", "rate":
				without = append(without, "--mode", "source")
			case "switch-uplink":
				without = append(without, "--switch-name", "lan")
			case "allow-name":
				without = append(without, "--restrict") // else it would open nothing
			}
			if n.cmd.Name() == "tap" && f.Name != "tap" {
				without = append(without, "--tap", "tap9")
			}
			with := append([]string{"--" + f.Name + "=" + value}, without...)
			requireAnotherFile(t, n.cmd.Name(), with, without)
		})
	}
}

// requireAnotherFile checks that the file of a command line is another one than that of one with less flags, and means the same.
func requireAnotherFile(t *testing.T, command string, with, without []string) {
	t.Helper()
	status, text, stderr := runHere(t, append([]string{"config", "from-flags", command}, with...)...)
	require.Equal(t, exitOK, status, "%v: %s", with, stderr)
	_, other, _ := runHere(t, append([]string{"config", "from-flags", command}, without...)...)
	require.NotEqual(t, other, text, "%v", with)
	for _, n := range networkCommands() {
		if n.cmd.Name() != command {
			continue
		}
		want, err := n.read(with)
		require.NoError(t, err)
		f, err := configfile.Parse("f", []byte(text), daemon.LookupGroup)
		require.NoError(t, err)
		changed, _ := daemon.Compare(&want, &f.Config)
		require.Empty(t, changed, "%v\n%s", with, text)
	}
}

func TestAFileIsMadeOfFlags(t *testing.T) {
	status, text, stderr := runHere(t, "config", "from-flags", "nat", "--socket-path", "/tmp/a", "-p", "8080:80", "--deny=192.0.2.0/24", "--allow", "192.0.2.7")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "guests:\n  - socket-path: /tmp/a\nnat:\n  forwards:\n    - \"tcp:127.0.0.1:8080:80\"\n  rules:\n    - deny: 192.0.2.0/24\n    - allow: 192.0.2.7/32\n", text)
	for args, want := range map[string]string{
		"":                            "want a command and its flags",
		"doctor":                      "commands are nat, tap, switch and stub",
		"nat":                         "no socket to meet the front end at; write --socket-path PATH, or --fd NUMBER",
		"nat --fd 3 --mtu x":          `--mtu "x": want a whole number`,
		"nat --fd 3 --mtuu 5":         "unknown flag --mtuu; did you mean --mtu?",
		"nat --fd 3 -p x --hostname=": "2 things are wrong",
		"nat --fd 3 8080:80":          "unexpected \"8080:80\"; write -p 8080:80",
		"tap --socket-path /tmp/a":    "a guest that is connected to a TAP device has the key tap",
		"stub --socket-path /tmp/a --socket-path /b": "",
		"stub --help": "",
	} {
		status, _, stderr := runHere(t, append([]string{"config", "from-flags"}, strings.Fields(args)...)...)
		if want == "" {
			require.Equal(t, exitOK, status, stderr)
			continue
		}
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, stderr, want)
	}
}

func TestAFileIsChecked(t *testing.T) {
	path := writeConfig(t, "guests:\n  - socket-path: /tmp/a\n  - socket-path: /tmp/b\nnat:\n")
	status, stdout, stderr := runHere(t, "config", "check", path)
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, path+" is right: 2 guests, nat\n", stdout)

	path = writeConfig(t, "guests:\n  - socket-path: /tmp/a\nnat:\n  mtu: x\n  mtuu: 5\n")
	status, _, stderr = runHere(t, "config", "check", path)
	require.Equal(t, exitUsage, status)
	require.Equal(t, "vring: 2 things are wrong:\n"+
		"  "+path+":4:8: mtu \"x\": want a whole number\n    4 |   mtu: x\n      |        ^\n"+
		"  "+path+":5:3: nat has no key \"mtuu\"; did you mean mtu?\n    5 |   mtuu: 5\n      |   ^\n"+
		"Try 'vring config check --help'.\n", stderr)

	path = writeConfig(t, "guests:\n  - socket-path: /no/such/directory\nnat:\n  mtu: 9\n")
	status, _, stderr = runHere(t, "config", "check", path)
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, ":2:18: socket path /no/such/directory: there is no directory /no/such")
	require.Contains(t, stderr, ":4:8: mtu 9: want 576 to 65520")
	for path, want := range map[string]string{"/dev/zero": "is not a regular file", "/no/such/file": "no such file"} {
		status, _, stderr := runHere(t, "config", "check", path)
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, want)
	}
	status, _, stderr = runHere(t, "serve")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "want one configuration file, as in vring serve vring.yaml; there are 0 arguments")
}

func TestAFileIsPrintedWhole(t *testing.T) {
	path := writeConfig(t, "nat:\n  mtu: 1500\n  forwards: [8080:80]\nguests: [{socket-path: /tmp/a}]\n")
	for _, args := range [][]string{{"config", "print", path}, {"config", "print", "--full", path}} {
		status, text, stderr := runHere(t, args...)
		require.Equal(t, exitOK, status, stderr)
		require.Contains(t, text, "guests:\n  - socket-path: /tmp/a\n")
		require.Contains(t, text, "    - \"tcp:127.0.0.1:8080:80\"\n")
		full := len(args) == 4
		require.Equal(t, full, strings.Contains(text, "\n  mtu: 1500\n"))
		require.Equal(t, !full, strings.Contains(text, "\n  # mtu: 1500\n"))
		_, again, _ := runHere(t, append(args[:len(args)-1], writeConfig(t, text))...)
		require.Equal(t, text, again, "it means the same")
	}
}

func TestTheSchemaIsPrinted(t *testing.T) {
	status, text, _ := runHere(t, "config", "schema")
	require.Equal(t, exitOK, status)
	require.Equal(t, string(configfile.Schema()), text)
}

// Guests of a file are served as those of flags: in a sandbox, by another process.
func TestGuestsOfAFileAreServed(t *testing.T) {
	for name, c := range map[string]struct{ network, log string }{
		"a NAT":   {"nat:\n  mtu: 1400\n", "mtu=1400"},
		"a stub":  {"stub:\n  mode: echo\n", "vring starts"},
		"no wall": {"stub:\nsandbox: off\n", "vring starts"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			path := writeConfig(t, fmt.Sprintf("guests:\n  - socket-path: %[1]s/a\n  - socket-path: %[1]s/b\n%s", dir, c.network))
			printed := untilReady(t, program(t, "serve", path))
			require.Contains(t, printed, c.log)
		})
	}
}

// exampleFile is the file for two guests that the documentation shows, with sockets in a directory.
func exampleFile(t *testing.T, dir string) string {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	require.NoError(t, err)
	_, text, found := strings.Cut(string(page), "```yaml\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "```")
	require.Contains(t, text, " /tmp/vm0.sock ")
	return strings.ReplaceAll(text, " /tmp/vm", " "+dir+"/vm")
}

// The forwards of the example want ports that another process may have, so the network is the test's own.
func TestTheExampleOfTheDocumentationIsServed(t *testing.T) {
	inNamespace(t)
	dir := shortDir(t)
	path := writeConfig(t, exampleFile(t, dir))
	status, stdout, stderr := runHere(t, "config", "check", path)
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "2 guests, nat")
	printed := untilReady(t, program(t, "serve", path))
	for _, want := range []string{"guest=10.0.2.15", "guest=10.0.2.16", "-p tcp:127.0.0.1:8080:10.0.2.15:80", "-p tcp:127.0.0.1:8081:10.0.2.16:80",
		"--allow-host tcp:5432", "--allow 192.168.1.7/32:443", "--deny 192.168.0.0/16", "--lease 52:54:00:12:34:56=10.0.2.50"} {
		require.Contains(t, printed, want)
	}
}
