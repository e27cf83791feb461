package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// honestRules are those of a guest whose programs have work to do.
func honestRules() []string {
	return []string{"--restrict", "--dns", resolver,
		"--allow-name", "good.example:80,443",
		"--allow-name", "long.example",
		"--allow-name", "*.packages.example:80,443",
		"--allow-name", "eyes.example:443",
		"--allow-name", "tcp:ssh.example:22",
		"--allow-name", "tcp:mail.example:25",
		"--allow-name", "tcp:every.example:7000",
		"--allow-name", "udp:time.example:123",
	}
}

// honest is a client that does what users do. Its script runs in the guest, with $work as its folder and $ca as the file of the authority.
type honest struct {
	name     string
	userland userland.Userland
	script   string
	want     []string // what it prints
}

// honestClients are programs that users have. All servers are those of the internet of the test.
func honestClients() []honest {
	return []honest{
		{name: "curl, HTTP/1.1", script: `
curl -sS --http1.1 --cacert $ca -w '%{http_version} %{num_connects}\n' https://good.example/ https://good.example/
curl -sS --http1.1 -w '%{num_connects}\n' "http://good.example/[1-100]" | sort | uniq -c`,
			want: []string{"HTTP/1.1 good.example\n1.1 1\nHTTP/1.1 good.example\n1.1 0\n", "    100 HTTP/1.1 good.example\n", "     99 0\n      1 1\n"}},
		{name: "curl, HTTP/2", script: `curl -sS --http2 --cacert $ca -Z "https://good.example/[1-20]" | sort | uniq -c`,
			want: []string{"20 HTTP/2.0 good.example\n"}},
		{name: "curl, IPv6 and IPv4", script: `
for family in -4 -6; do curl -sS $family --cacert $ca -o /dev/null -w '%{remote_ip}\n' https://good.example/; done`,
			want: []string{goodAddress + "\n" + goodAddress6}},
		{name: "curl, an address that does not answer", script: `curl -sS --cacert $ca -o /dev/null -w '%{remote_ip}\n' https://eyes.example/`,
			want: []string{"203.0.113.36"}},
		{name: "curl, a large upload that waits to be wanted", script: `
head -c 3000000 /dev/zero >$work/large
curl -sS --http1.1 --cacert $ca -H 'Expect: 100-continue' -T $work/large https://good.example/sum
curl -sS --cacert $ca --data-binary @$work/large https://good.example/sum
curl -sS -H Expect: --data-binary @$work/large http://good.example/sum`,
			want: []string{"PUT 3000000\nPOST 3000000\nPOST 3000000\n"}},
		{name: "curl, an upload in chunks", script: `
head -c 300000 /dev/zero | curl -sS -H Expect: -T - http://good.example/sum
head -c 300000 /dev/zero | curl -sS --http1.1 --cacert $ca -T - https://good.example/sum`,
			want: []string{"PUT 300000\nPUT 300000\n"}},
		{name: "curl, an answer that takes its time", script: `curl -sS --cacert $ca https://good.example/poll; curl -sS http://good.example/poll`,
			want: []string{"at last\nat last\n"}},
		{name: "wget", script: `wget -q -O - --ca-certificate=$ca https://good.example/; wget -q -O - http://good.example/a http://good.example/b`,
			want: []string{strings.Repeat("HTTP/1.1 good.example\n", 3)}},
		{name: "busybox wget and nc", script: `
busybox wget -q -O - http://good.example/
printf 'GET / HTTP/1.0\r\nHost: good.example\r\n\r\n' | busybox nc good.example 80 | tail -1
echo echoed | timeout 60 busybox nc every.example 7000`,
			want: []string{"HTTP/1.1 good.example\nHTTP/1.0 good.example\nechoed\n"}},
		{name: "openssl s_client", script: `
printf 'GET / HTTP/1.0\r\nHost: good.example\r\n\r\n' | openssl s_client -quiet -verify_return_error -CAfile $ca -connect good.example:443 -servername good.example 2>/dev/null | tail -1
printf 'GET / HTTP/1.0\r\nHost: good.example\r\n\r\n' | openssl s_client -quiet -groups P-384:P-256 -CAfile $ca -connect good.example:443 -servername GOOD.example 2>/dev/null | tail -1`,
			want: []string{"HTTP/1.0 good.example\nHTTP/1.0 good.example\n"}},
		{name: "getent", script: `getent ahostsv4 good.example | head -1; getent ahostsv6 good.example | head -1`,
			want: []string{goodAddress + " ", goodAddress6 + " "}},
		{name: "dig", userland: userland.Forky, script: `
dig +short good.example A; dig +short good.example AAAA; dig good.example HTTPS | grep status; dig +noall +comments evil.example | grep status`,
			want: []string{goodAddress + "\n" + goodAddress6 + "\n", "status: NOERROR", "status: REFUSED"}},
		{name: "dig by TCP", userland: userland.Forky, script: `
dig +tcp +keepopen +short good.example A good.example AAAA; dig +tcp good.example HTTPS | grep status; dig +tcp +noall +comments evil.example | grep status
dig +tcp +short long.example TXT | wc -c; dig +short long.example TXT | wc -c; dig +ignore +noall +comments long.example TXT | grep flags
dig +tcp good.example AXFR | grep -o 'Transfer failed'`,
			want: []string{goodAddress + "\n" + goodAddress6 + "\n", "status: NOERROR", "status: REFUSED", "12180\n12180\n", "flags: qr tc rd ra;", "Transfer failed"}},
		{name: "git over https", script: `
export GIT_SSL_CAINFO=$ca GIT_CONFIG_GLOBAL=/dev/null
git clone -q https://git.packages.example/git/project.git $work/project && cat $work/project/file
cd $work/project && echo more >>file && git -c user.name=a -c user.email=a@good.example commit -qam more && git push -q origin HEAD && git ls-remote origin | wc -l`,
			want: []string{"content of the file\n2\n"}},
		{name: "apt", script: `
mkdir -p $work/lists/partial $work/cache/archives/partial $work/etc/apt.conf.d $work/etc/preferences.d $work/state
echo 'deb [trusted=yes] http://apt.packages.example/apt ./' >$work/etc/sources.list
: >$work/state/status
apt="apt-get -o Dir::Etc=$work/etc -o Dir::State=$work/state -o Dir::State::lists=$work/lists -o Dir::State::status=$work/state/status -o Dir::Cache=$work/cache -o APT::Sandbox::User=root -o Acquire::Languages=none"
$apt -qq update && cd $work && $apt -qq download hello-vring && dpkg-deb -f hello-vring_1.0_all.deb Package`,
			want: []string{"hello-vring\n"}},
		{name: "pip", script: `
cd $work; export PIP_CERT=$ca PIP_CONFIG_FILE=/dev/null
/usr/bin/python3 -m pip download -q --disable-pip-version-check --no-deps --index-url https://pip.packages.example/simple hello-vring && ls`,
			want: []string{"hello_vring-1.0-py3-none-any.whl\n"}},
		{name: "python", script: `
cat >$work/get.py <<'END'
import http.client, os, ssl, urllib.request
context = ssl.create_default_context(cafile=os.environ["ca"])
print(urllib.request.urlopen("https://good.example/", context=context).read().decode(), end="")
c = http.client.HTTPConnection("good.example")
for i in range(20):
    c.request("POST", "/sum", body=b"x" * i)
    print(c.getresponse().read().decode().strip(), end=";")
END
/usr/bin/python3 $work/get.py`,
			want: []string{"HTTP/1.1 good.example\n", "POST 0;POST 1;", "POST 19;"}},
		{name: "go", script: `
export SSL_CERT_FILE=$ca HOME=$work GOPATH=$work/go GOCACHE=$work/cache GOFLAGS=-modcacherw GOPROXY=https://go.packages.example/goproxy GONOSUMDB=* GOTOOLCHAIN=local
mkdir $work/module && cd $work/module && go mod init -modfile=go.mod own.example/module 2>/dev/null; go mod download -json hello.example/vring@v1.0.0 | grep Version`,
			want: []string{`"Version": "v1.0.0"`}},
		{name: "java", script: `
cat >$work/Get.java <<'END'
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.*;
import javax.net.ssl.*;
public class Get {
	public static void main(String[] args) throws Exception {
		KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
		store.load(null, null);
		store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(Files.newInputStream(Path.of(args[0]))));
		TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
		trust.init(store);
		SSLContext context = SSLContext.getInstance("TLS");
		context.init(null, trust.getTrustManagers(), null);
		HttpClient client = HttpClient.newBuilder().sslContext(context).build();
		for (String url : new String[] {"https://good.example/", "http://good.example/"}) {
			HttpRequest request = HttpRequest.newBuilder(URI.create(url)).version(url.startsWith("https") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1).build();
			System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
		}
	}
}
END
java -Xshare:auto -XX:TieredStopAtLevel=1 $work/Get.java $ca`,
			want: []string{"HTTP/2.0 good.example\nHTTP/1.1 good.example\n"}},
		{name: "ssh", userland: userland.Forky, script: `ssh -F $field/ssh-config ssh.example 'echo over ssh'`, want: []string{"over ssh\n"}},
		{name: "mail", script: `
printf 'Subject: test\r\n\r\nhello\r\n' >$work/mail
curl -sS smtp://mail.example --mail-from a@good.example --mail-rcpt b@mail.example -T $work/mail && echo sent`,
			want: []string{"sent\n"}},
		{name: "time", script: `timeout 60 bash -c 'exec 3<>/dev/udp/time.example/123; printf hello >&3; head -c 5 <&3'`, want: []string{"hello"}},
		{name: "websocket", script: `/usr/bin/python3 $field/websocket.py ws://good.example/upgrade; /usr/bin/python3 $field/websocket.py wss://good.example/upgrade`,
			want: []string{"echo of a frame\necho of a frame\n"}},
		{name: "chromium", script: `
chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
	--ignore-certificate-errors --disable-features=LocalNetworkAccessChecks --user-data-dir=$work/profile --timeout=60000 --virtual-time-budget=30000 --dump-dom https://eyes.example/page 2>/dev/null`,
			want: []string{"eyes: HTTP/2.0 eyes.example", "good: HTTP/2.0 good.example", "evil: TypeError"}},
	}
}

// Programs that do what rules allow do not notice them.
func TestHonestClientsWorkUnderRulesByName(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.names.address("eyes.example", 60, "2001:db8:dead::1")
	e.names.address("eyes.example", 60, "203.0.113.36")
	e.internet.run("ip -6 route add table local blackhole 2001:db8:dead::/48")
	e.serveWork()
	e.start(honestRules()...)
	for _, c := range honestClients() {
		t.Run(c.name, func(t *testing.T) {
			out := e.inGuest(t, c)
			for _, want := range c.want {
				require.Contains(t, out, want)
			}
		})
	}
}

// inGuest runs a client in the guest, and returns what it prints.
func (e *egress) inGuest(t *testing.T, c honest) string {
	t.Helper()
	return e.clientIn(t, e.guest.Namespace, "nameserver 10.0.2.3\n", c)
}

// onHost runs a client on the host.
func (e *egress) onHost(t *testing.T, c honest) string {
	t.Helper()
	return e.clientIn(t, e.host.Namespace, "nameserver "+resolver+"\n", c)
}

func (e *egress) clientIn(t *testing.T, ns *netns.Namespace, resolvers string, c honest) string {
	t.Helper()
	work := filepath.Join(e.dir, "work", strings.ReplaceAll(c.name, " ", "-"))
	require.NoError(t, os.MkdirAll(work, 0o755))
	path := e.write("scripts/"+filepath.Base(work)+".sh", c.script+"\n")
	cmd := exec.Command("/bin/sh", path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + work, "work=" + work, "field=" + e.dir, "ca=" + e.web.file}
	cmd.Dir = work
	p, err := process.Start(e.ctx, cmd, process.Options{Thread: e.as(ns, resolvers, c.userland)})
	require.NoError(t, err)
	_ = p.Wait(egressLimit)
	return p.Output()
}

// as returns what makes a thread one of a namespace with a resolver of its own, and with the programs of a generation.
func (e *egress) as(ns *netns.Namespace, resolvers string, u userland.Userland) func() error {
	file := e.write(fmt.Sprintf("resolvers/%x", resolvers), resolvers)
	enter := ns.Enter
	if u == userland.Bookworm {
		enter = func() error {
			return errors.Join(ns.Enter(), unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		}
	}
	enter = u.Thread(enter)
	return func() error {
		return errors.Join(enter(), unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""))
	}
}

// serve starts a program in the internet. It ends with the test.
func (e *egress) serve(u userland.Userland, name string, args ...string) *process.Process {
	e.t.Helper()
	path, err := u.Tool(name)
	require.NoError(e.t, err)
	p, err := process.Start(context.Background(), exec.Command(path, args...), process.Options{Thread: e.asServer(u)})
	require.NoError(e.t, err)
	e.t.Cleanup(func() {
		require.NoError(e.t, p.Kill())
		if e.t.Failed() {
			e.t.Logf("%s printed at last:\n%s", name, lastOf(p.Output()))
		}
	})
	return p
}

// asServer returns what makes a thread one of the internet, with an empty /run but for what services want to be there.
func (e *egress) asServer(u userland.Userland) func() error {
	enter := e.as(e.internet.Namespace, "nameserver "+resolver+"\n", u)
	return func() error {
		return errors.Join(enter(), unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"), os.MkdirAll("/run/sshd", 0o755))
	}
}
