package integration

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// serveWork starts what honest clients work with.
func (e *egress) serveWork() {
	e.t.Helper()
	for name, address := range map[string]string{"apt.packages.example": "203.0.113.40", "pip.packages.example": "203.0.113.40",
		"go.packages.example": "203.0.113.40", "git.packages.example": "203.0.113.40", "mail.example": "203.0.113.41"} {
		e.names.address(name, 60, address)
	}
	e.web.mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d\n", r.Method, n)
	})
	e.web.mux.HandleFunc("/poll", func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Second)
		fmt.Fprintln(w, "at last")
	})
	e.servePage()
	e.serveGit()
	e.serveApt()
	e.servePip()
	e.serveGoProxy()
	e.serveTCP(25, serveMail)
	e.serveShell()
	e.write("websocket.py", websocketClient)
}

// servePage is for browsers: it asks for other pages, and shows what came of it.
func (e *egress) servePage() {
	e.web.mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><body><script>
for (const name of ["eyes", "good", "evil"])
	fetch("https://" + name + ".example/open").then(r => r.text()).catch(e => e.name + " " + e.message).then(text => {
		const p = document.createElement("p");
		p.textContent = name + ": " + text;
		document.body.append(p);
	});
</script></body>`)
	})
	e.web.mux.HandleFunc("/open", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprintf(w, "%s %s\n", r.Proto, r.Host)
	})
}

// serveGit offers a repository over HTTP, to read and to write.
func (e *egress) serveGit() {
	dir := filepath.Join(e.dir, "git")
	e.run(fmt.Sprintf(`export HOME=%s GIT_CONFIG_GLOBAL=/dev/null; set -e
mkdir -p %[1]s; cd %[1]s; git init -q -b main seed; cd seed; echo "content of the file" >file; git add file
git -c user.name=a -c user.email=a@good.example commit -qm first; cd ..; git clone -q --bare seed project.git; git -C project.git config http.receivepack true`, dir))
	e.web.mux.Handle("/git/", &cgi.Handler{Path: "/usr/lib/git-core/git-http-backend", Root: "/git",
		Env:    []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		Stderr: io.Discard})
}

// serveApt offers a repository of one package.
func (e *egress) serveApt() {
	dir := filepath.Join(e.dir, "apt")
	e.write("deb/DEBIAN/control", "Package: hello-vring\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@good.example>\nDescription: nothing\n")
	require.NoError(e.t, os.MkdirAll(dir, 0o755))
	e.run("dpkg-deb -b " + filepath.Join(e.dir, "deb") + " " + dir + "/hello-vring_1.0_all.deb >/dev/null")
	deb, err := os.ReadFile(filepath.Join(dir, "hello-vring_1.0_all.deb"))
	require.NoError(e.t, err)
	packages := fmt.Sprintf("Package: hello-vring\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@good.example>\nFilename: ./hello-vring_1.0_all.deb\nSize: %d\nSHA256: %x\nDescription: nothing\n\n",
		len(deb), sha256.Sum256(deb))
	e.write("apt/Packages", packages)
	e.write("apt/Release", fmt.Sprintf("Date: %s\nSHA256:\n %x %d Packages\nMD5Sum:\n %x %[3]d Packages\n", time.Now().UTC().Format(time.RFC1123),
		sha256.Sum256([]byte(packages)), len(packages), md5.Sum([]byte(packages))))
	e.serveFolder("apt")
}

// servePip offers an index of one package.
func (e *egress) servePip() {
	wheel := zipped(e, map[string]string{"hello_vring/__init__.py": "", "hello_vring-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
		"hello_vring-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hello-vring\nVersion: 1.0\n", "hello_vring-1.0.dist-info/RECORD": ""})
	e.write("simple/hello-vring/hello_vring-1.0-py3-none-any.whl", wheel)
	e.write("simple/hello-vring/index.html", "<!DOCTYPE html><html><body><a href=\"hello_vring-1.0-py3-none-any.whl\">hello_vring-1.0-py3-none-any.whl</a></body></html>\n")
	e.serveFolder("simple")
}

// serveGoProxy is a module proxy of one module.
func (e *egress) serveGoProxy() {
	const mod = "module hello.example/vring\n\ngo 1.22\n"
	at := "goproxy/hello.example/vring/@v/"
	e.write(at+"list", "v1.0.0\n")
	e.write(at+"v1.0.0.info", `{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}`)
	e.write(at+"v1.0.0.mod", mod)
	e.write(at+"v1.0.0.zip", zipped(e, map[string]string{"hello.example/vring@v1.0.0/go.mod": mod, "hello.example/vring@v1.0.0/hello.go": "package vring\n"}))
	e.serveFolder("goproxy")
}

// serveFolder offers a folder of the test's under its name.
func (e *egress) serveFolder(name string) {
	e.web.mux.Handle("/"+name+"/", http.StripPrefix("/"+name, http.FileServer(http.Dir(filepath.Join(e.dir, name)))))
}

// zipped returns an archive.
func zipped(e *egress, files map[string]string) string {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for name, text := range files {
		file, err := w.Create(name)
		require.NoError(e.t, err)
		_, err = io.WriteString(file, text)
		require.NoError(e.t, err)
	}
	require.NoError(e.t, w.Close())
	return archive.String()
}

// run runs a script on this machine.
func (e *egress) run(script string) {
	e.t.Helper()
	out, err := exec.CommandContext(e.ctx, "/bin/sh", "-c", script).CombinedOutput()
	require.NoError(e.t, err, "%s", out)
}

// serveMail takes a message.
func serveMail(c net.Conn) {
	fmt.Fprintf(c, "220 mail.example\r\n")
	data := false
	for lines := bufio.NewScanner(c); lines.Scan(); {
		line := lines.Text()
		switch {
		case data && line != ".":
			continue
		case line == "DATA":
			data = true
			fmt.Fprintf(c, "354 go on\r\n")
		case line == "QUIT":
			fmt.Fprintf(c, "221 bye\r\n")
			return
		default:
			data = false
			fmt.Fprintf(c, "250 ok\r\n")
		}
	}
}

// serveShell starts an SSH server at the address of ssh.example, and makes its keys and its client's.
func (e *egress) serveShell() {
	e.t.Helper()
	for _, name := range []string{"ssh-server", "ssh-client"} {
		e.run("ssh-keygen -q -t ed25519 -N '' -f " + filepath.Join(e.dir, name))
	}
	public, err := os.ReadFile(filepath.Join(e.dir, "ssh-server.pub"))
	require.NoError(e.t, err)
	e.write("ssh-config", fmt.Sprintf("Host *\nUser root\nIdentityFile %s\nIdentitiesOnly yes\nUserKnownHostsFile %s\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\nBatchMode yes\n",
		filepath.Join(e.dir, "ssh-client"), e.write("ssh-known", "ssh.example "+string(public))))
	config := e.write("sshd-config", fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n",
		sshAddress, filepath.Join(e.dir, "ssh-server"), filepath.Join(e.dir, "ssh-client.pub")))
	e.serve(userland.Forky, "sshd", "-D", "-e", "-f", config)
}

// websocketClient sends a frame over a websocket and prints what comes back, with what Python has.
const websocketClient = `
import os, socket, ssl, sys, urllib.parse
url = urllib.parse.urlparse(sys.argv[1])
s = socket.create_connection((url.hostname, url.port or (443 if url.scheme == "wss" else 80)), 60)
if url.scheme == "wss":
    s = ssl.create_default_context(cafile=os.environ["ca"]).wrap_socket(s, server_hostname=url.hostname)
s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" % (url.path, url.hostname)).encode())
head = b""
while not head.endswith(b"\r\n\r\n"):
    head += s.recv(1)
assert b" 101 " in head, head
text = b"echo of a frame"
s.sendall(bytes([0x81, len(text)]) + text)
got = b""
while len(got) < len(text) + 2:
    got += s.recv(100)
print(got[2:].decode())
`
