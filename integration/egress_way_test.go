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
	t.Parallel()
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
