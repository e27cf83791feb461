package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// learnedWork is what a guest does whose rules are learned, and that it works.
func learnedWork() honest {
	return honest{name: "work", userland: userland.Forky, script: `
dig +short good.example A
curl -4sS --max-time 120 --cacert $ca https://good.example/
curl -4sS --max-time 120 --cacert $ca https://other.example/
curl -sS --max-time 120 http://cdn.cdn.example/
ssh -F $field/ssh-config ssh.example 'echo over ssh'
curl -sS --max-time 120 http://203.0.113.77/`,
		want: []string{goodAddress + "\n", "HTTP/2.0 good.example\nHTTP/2.0 other.example\nHTTP/1.1 cdn.cdn.example\nover ssh\nHTTP/1.1 203.0.113.77\n"}}
}

// What a guest did while its rules were learned works under the rules that were written, in the sandbox, and nothing else does.
func TestWhatWasLearnedSuffices(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.serveShell()
	file, log := filepath.Join(e.dir, "learned.yaml"), filepath.Join(e.dir, "audit.jsonl")
	e.startAlone("--dns", resolver, "--learn", file, "--audit-log", log)
	for i, want := range learnedWork().want {
		require.Contains(t, e.inGuest(t, learnedWork()), want)
		if i == 0 { // as logrotate does
			require.NoError(t, os.Rename(log, log+".old"))
			e.vring.ctl("audit", "reopen")
		}
	}
	for _, path := range []string{log, log + ".old"} {
		lines, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(lines), `"name":"good.example","verdict":"allowed"`, path)
	}
	seen := e.vring.ctl("learned")
	require.Regexp(t, `10\.0\.2\.15 +--allow-name tcp:good\.example:443 +[0-9]+ `, seen)
	require.Regexp(t, `10\.0\.2\.15 +--allow tcp:203\.0\.113\.77:80 +[0-9]+ `, seen)
	require.NoError(t, e.vring.Signal(syscall.SIGINT))
	require.NoError(t, e.vring.Wait(soon))
	e.vring.ended()
	require.Contains(t, e.vring.Output(), "what guests did was written as rules")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var rules []string
	for line := range strings.Lines(string(text)) {
		if _, option, found := strings.Cut(line, " # --"); found {
			option, _, _ = strings.Cut(option, ": ")
			rules = append(rules, "--"+option)
		}
	}
	require.Equal(t, []string{
		"--allow-name tcp:cdn.cdn.example:80", "--allow-name tcp:good.example:443", "--allow-name tcp:other.example:443", "--allow-name tcp:ssh.example:22",
		"--allow tcp:203.0.113.77:80",
	}, rules)

	d := &daemon{t: t, options: process.Options{Thread: e.host.Enter}, Socket: filepath.Join(e.dir, "second.sock")}
	config := e.write("second.yaml", "guests:\n  - socket-path: "+d.Socket+"\nfront-end: stream\n"+strings.Replace(string(text), "nat:\n", "nat:\n  dns: ["+resolver+"]\n", 1))
	d.args = []string{"serve", config}
	d.start()
	t.Cleanup(d.terminate)
	e.vring, e.guest = d, e.plug(d.Socket, 15)
	out := e.inGuest(t, learnedWork())
	for _, want := range learnedWork().want {
		require.Contains(t, out, want)
	}
	for command, want := range map[string]string{
		`curl -sS --max-time 60 http://evil.example/ 2>&1`:                                                    "Could not resolve host",
		`curl -sS --max-time 60 http://203.0.113.78/ 2>&1`:                                                    "Failed to connect",
		`curl -4sS --max-time 60 http://good.example/ 2>&1`:                                                   "Failed to connect",
		`curl -sS --max-time 60 -k --resolve evil.example:443:` + goodAddress + ` https://evil.example/ 2>&1`: "curl: (",
		`curl -sS --max-time 60 -k --resolve good.example:443:203.0.113.77 https://good.example/ 2>&1`:        "Failed to connect",
	} {
		require.Contains(t, e.asked(command), want, command)
	}
	explained := d.ctl("explain", "10.0.2.15", "tcp:good.example:443")
	require.Contains(t, explained, "allowed:")
	require.Contains(t, explained, "the name in its TLS hello")
	require.Contains(t, explained, goodAddress+", allowed: the first rule that matches opens it (--allow-name tcp:good.example:443)")
	d.waitLog("which --allow-name evil.example:80,443 opens", 1)
	d.waitLog("which --allow tcp:203.0.113.78:80 opens", 1)
}
