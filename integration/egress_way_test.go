package integration

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// startAlone starts vring in its sandbox with more arguments, and one guest on it.
func (e *egress) startAlone(args ...string) {
	e.t.Helper()
	d := &daemon{t: e.t, options: process.Options{Thread: e.host.Enter}, env: []string{"SSL_CERT_FILE=" + e.web.file}}
	e.vring = d.startAtSocket("nat", append([]string{"--front-end", "stream", "--sandbox=on"}, args...)...)
	e.guest = e.plug(e.vring.Socket, 15)
}

// asked runs a command line in the guest, and returns what it prints.
func (e *egress) asked(line string) string {
	e.t.Helper()
	return e.shell(e.t, line, e.as(e.guest.Namespace, "nameserver 10.0.2.3\n", userland.Bookworm))
}

// tellsClients lets the internet's web pages tell who has asked for them.
func (e *egress) tellsClients() {
	e.web.mux.HandleFunc("/from", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "from %s\n", host)
	})
}

// get asks for the page that tells who has asked, by the name of a server.
const get = `curl -sS --max-time 120 http://good.example/from 2>&1`

func TestNamesAreAskedByTLSAndAuditedInTheSandbox(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	config := e.web.config()
	config.NextProtos = nil
	server := &dns.Server{
		Listener: tls.NewListener(e.listenTCP(8853), config),
		Handler:  dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(e.names.answer(q)) }),
	}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	log := filepath.Join(e.dir, "audit.log")
	e.startAlone("--restrict", "--dns", "tls://"+resolver+":8853#names.example", "--allow-name", "good.example:80", "--audit-log", log)
	require.Contains(t, e.asked(`curl -sS http://good.example/`), "HTTP/1.1 good.example")
	require.Contains(t, e.asked(`curl -sS http://evil.example/ 2>&1`), "Could not resolve host")
	lines := ""
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		lines = string(text)
		return auditHas(lines, "query", "good.example", "allowed") && auditHas(lines, "query", "evil.example", "unlisted") &&
			auditHas(lines, "begun", "good.example", "unproved") && auditHas(lines, "ended", "good.example", "allowed")
	}, soon, tick, "the audit log lacks something: %s", log)
}

func TestGuestsLeaveByAnInterfaceAndASourceAddressInTheSandbox(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.tellsClients()
	const second = "198.18.7.9"
	e.host.run("ip address add " + second + "/24 dev " + egressWire)
	e.startAlone("--dns", resolver, "--outbound-interface", egressWire, "--outbound-address", second)
	require.Equal(t, "from "+second+"\n", e.asked(get))
	e.host.run("ip link set " + egressWire + " down")
	require.Contains(t, e.asked(`curl -sS --max-time 20 http://`+goodAddress+`/from 2>&1`), "curl: (", "nothing leaves")
}

func TestGuestsLeaveByProxiesOfTheField(t *testing.T) {
	wait := beginHalfDead(t)
	t.Parallel() // meanwhile half a minute goes by
	defer wait()
	const at, user = proxyAddress, "me"
	for name, c := range map[string]struct {
		via    string
		want   string
		client string // of the server
	}{
		"SOCKS":                          {via: "socks5://me:secret@" + at + ":1080", client: at},
		"SOCKS, with a wrong password":   {via: "socks5://me:wrong@" + at + ":1080", want: "curl: ("},
		"HTTP":                           {via: "http://me:secret@" + at + ":8888", client: at},
		"HTTP, with a wrong password":    {via: "http://me:wrong@" + at + ":8888", want: "curl: ("},
		"HTTP, to a port that it closes": {via: "http://me:secret@" + at + ":8889", want: "curl: ("},
		"a proxy that is not there":      {via: "socks5://" + at + ":1081", want: "curl: ("},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEgress(t)
			e.tellsClients()
			e.serve(userland.Bookworm, "microsocks", "-i", at, "-b", at, "-p", "1080", "-u", user, "-P", "secret")
			for port, more := range map[string]string{"8888": "ConnectPort 80\n", "8889": "ConnectPort 443\n"} {
				file := e.write("tinyproxy."+port, "Port "+port+"\nListen "+at+"\nBind "+at+"\nBasicAuth me secret\n"+more)
				e.serve(userland.Bookworm, "tinyproxy", "-d", "-c", file)
			}
			for _, port := range []string{"1080", "8888", "8889"} {
				require.Eventually(t, func() bool { return e.answers(at + ":" + port) }, soon, 10*time.Millisecond)
			}
			e.startAlone("--dns", resolver, "--via", c.via)
			out := e.asked(get)
			if c.client != "" {
				require.Equal(t, "from "+c.client+"\n", out)
				return
			}
			require.Contains(t, out, c.want, "the guest gets nothing, not by another way either")
			require.NotContains(t, out, "from ")
		})
	}
}

// beginHalfDead lets a guest connect by a proxy that is stopped: the host's kernel still accepts for it, and nobody answers. It returns what waits
// for the end of that.
func beginHalfDead(t *testing.T) (wait func()) {
	e := newEgress(t)
	const at = proxyAddress + ":1080"
	proxy := e.serve(userland.Bookworm, "microsocks", "-i", proxyAddress, "-p", "1080")
	require.Eventually(t, func() bool { return e.answers(at) }, soon, 10*time.Millisecond)
	require.NoError(t, proxy.Signal(syscall.SIGSTOP))
	e.startAlone("--dns", resolver, "--via", "socks5://"+at)
	out := make(chan string, 1)
	go func() {
		defer close(out)
		out <- e.asked(`curl -sS --max-time 120 http://good.example/from 2>&1`)
	}()
	return func() {
		require.Regexp(t, `curl: \(7\) Failed to connect to good\.example port 80 after 3\d{4} ms`, <-out, "it is refused after 30 seconds, and not before")
		e.vring.waitLog("the proxy does not answer", 1)
		require.Contains(t, e.vring.ctl("why"), "the proxy does not answer")
	}
}

// users of dante are those of the machine, so it has files of its own for them.
const danteStart = `mount --bind %[1]s/passwd /etc/passwd && mount --bind %[1]s/shadow /etc/shadow && exec danted -f %[1]s/danted.conf`

// serveDante starts dante, which asks for a password and forbids port 81.
func (e *egress) serveDante(port string) {
	e.write("passwd", "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nme:x:4321:65534::/:/bin/false\n")
	e.write("shadow", "root:*:19000::::::\nnobody:*:19000::::::\nme:$5$vring$ZMq3f7lkLh9SmzitdnDJEn2bfs1Y0Ng0k92bitTi//C:19000::::::\n") // secret
	e.write("danted.conf", "logoutput: stderr\ninternal: "+proxyAddress+" port = "+port+"\nexternal: "+proxyAddress+`
clientmethod: none
socksmethod: username
user.privileged: root
user.unprivileged: nobody
client pass { from: 0/0 to: 0/0 }
socks block { from: 0/0 to: 0/0 port = 81 }
socks pass { from: 0/0 to: 0/0 }
`)
	e.serve(userland.Bookworm, "sh", "-c", fmt.Sprintf(danteStart, e.dir))
}

func TestGuestsLeaveByDante(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.tellsClients()
	e.serveDante("1082")
	require.Eventually(t, func() bool { return e.answers(proxyAddress + ":1082") }, soon, 10*time.Millisecond)
	e.startAlone("--dns", resolver, "--deny", "192.0.2.99")
	const socks = proxyAddress + ":1082"
	for _, c := range []struct{ via, url, want, told string }{
		{"socks5://me:secret@" + socks, "http://good.example/from", "from " + proxyAddress + "\n", ""},
		{"socks5://me:wrong@" + socks, "http://good.example/from", "curl: (7)", "the proxy does not take the user name and the password"},
		{"socks5://" + socks, "http://good.example/from", "curl: (7)", "the proxy wants a user name and a password"},
		{"socks5://me:secret@" + socks, "http://good.example:81/", "curl: (7)", "the proxy says: connection not allowed by ruleset"},
		{"socks5://me:secret@" + socks, "http://good.example:82/", "curl: (7)", "the proxy says: connection refused"},
	} {
		e.vring.ctl("policy", "replace", "--deny", "192.0.2.99", "--via", c.via)
		require.Contains(t, e.asked(`curl -4sS --max-time 120 `+c.url+` 2>&1`), c.want, "%s %s: %s", c.via, c.url, e.vring.ctl("why"))
		if c.told != "" {
			require.Contains(t, e.vring.ctl("why"), c.told, "%s %s", c.via, c.url)
		}
	}
}

// answers reports whether somebody listens at an address of the internet's.
func (e *egress) answers(address string) bool {
	err := e.internet.Do(func() error {
		c, err := net.Dial("tcp4", address)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	return err == nil
}

// auditHas reports whether an audit log has a line of a kind about a name, with a verdict.
func auditHas(lines, kind, name, verdict string) bool {
	for line := range strings.SplitSeq(lines, "\n") {
		var l struct{ Kind, Name, Verdict string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Kind == kind && l.Name == name && l.Verdict == verdict {
			return true
		}
	}
	return false
}
