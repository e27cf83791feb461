package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// The files that the services of the world offer, in the folder "files": one of fieldBytes, a small one, and many.
const (
	fieldBig   = "big"
	fieldSmall = "small"
	fieldMany  = 200
)

// smallBytes is the length of the small file: no multiple of what any protocol sends at once.
const smallBytes = 1<<20 + 77

// fieldBytes is the length of the large file.
func fieldBytes() int64 {
	if enduring() {
		return 1 << 30
	}
	return 8 << 20
}

// writeFiles writes the files.
func (f *field) writeFiles() {
	f.t.Helper()
	dir := filepath.Join(f.dir, "files")
	require.NoError(f.t, os.MkdirAll(filepath.Join(dir, "many"), 0o755))
	put := func(name string, seed uint64, n int64) {
		file, err := os.Create(filepath.Join(dir, name))
		require.NoError(f.t, err)
		_, err = io.Copy(file, proto.Pattern(seed, n))
		require.NoError(f.t, err)
		require.NoError(f.t, file.Close())
	}
	put(fieldBig, hostSeed, fieldBytes())
	put(fieldSmall, guestSeed, smallBytes)
	for i := range fieldMany {
		put(fmt.Sprintf("many/%03d", i), uint64(i), int64(i*i))
	}
}

// serveWeb offers the files by HTTP, on port 80 and with TLS and HTTP/2 on 443. What is sent is answered by its length and its sum.
func (f *field) serveWeb() {
	f.t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(filepath.Join(f.dir, "files"))))
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		fmt.Fprintf(w, "%s %d %v %x\n", r.Method, n, err, hash.Sum(nil))
	})
	plain, secure := httptest.NewUnstartedServer(mux), httptest.NewUnstartedServer(mux)
	plain.Listener.Close()
	secure.Listener.Close()
	plain.Listener, secure.Listener = f.listen(80), f.listen(443)
	secure.EnableHTTP2 = true
	plain.Start()
	secure.StartTLS()
	f.t.Cleanup(plain.Close)
	f.t.Cleanup(secure.Close)
}

// serveSums answers on port 7000 what it was sent by its sum, when the client has ended its side of the connection.
func (f *field) serveSums() {
	f.t.Helper()
	l := f.listen(7000)
	f.t.Cleanup(func() { _ = l.Close() })
	go serveEach(l, func(conn net.Conn) { fmt.Fprintf(conn, "%s  -\n", proto.Sum(conn).SHA256) })
}

// listen opens a port of the world.
func (f *field) listen(port int) (l net.Listener) {
	f.t.Helper()
	require.NoError(f.t, f.world.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	}))
	return l
}

// serveNames is the resolver of the world. A datagram as long as the client allows carries the long text.
func (f *field) serveNames() {
	f.t.Helper()
	var datagrams net.PacketConn
	require.NoError(f.t, f.world.Do(func() (err error) {
		datagrams, err = net.ListenPacket("udp4", fieldWorld+":53")
		return err
	}))
	for _, server := range []*dns.Server{{PacketConn: datagrams}, {Listener: f.listen(53)}} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := fieldAnswer(q)
			if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
				m.Truncate(allowedBy(q))
			}
			_ = w.WriteMsg(m)
		})
		go func() { _ = server.ActivateAndServe() }()
		f.t.Cleanup(func() { _ = server.Shutdown() })
	}
}

// allowedBy returns how long a datagram a client takes.
func allowedBy(q *dns.Msg) int {
	if o := q.IsEdns0(); o != nil {
		return int(o.UDPSize())
	}
	return dns.MinMsgSize
}

func fieldAnswer(q *dns.Msg) *dns.Msg {
	const www, text, textParts = "www." + fieldDomain + ".", "text." + fieldDomain + ".", 15
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	question := q.Question[0]
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 60}
	switch {
	case question.Name == www && question.Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: netip.MustParseAddr(fieldWorld).AsSlice()}}
	case question.Name == www && question.Qtype == dns.TypeAAAA:
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header, AAAA: netip.MustParseAddr(fieldWorld6).AsSlice()}}
	case question.Name == "2.7.18.198.in-addr.arpa." && question.Qtype == dns.TypePTR:
		m.Answer = []dns.RR{&dns.PTR{Hdr: header, Ptr: www}}
	case question.Name == text && question.Qtype == dns.TypeTXT:
		for i := range textParts {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header, Txt: []string{strings.Repeat(string(rune('a'+i)), 250)}})
		}
	case question.Name != www && question.Name != text:
		m.Rcode = dns.RcodeNameError
	}
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(4096, false)
	}
	return m
}

// serveFiles offers the files by TFTP, rsync, FTP and SSH.
func (f *field) serveFiles() {
	files := filepath.Join(f.dir, "files")
	f.serve("dnsmasq", "--keep-in-foreground", "--port=0", "--enable-tftp", "--tftp-root="+files, "--user=root", "--conf-file=/dev/null",
		"--pid-file=", "--log-facility=-")
	f.serve("rsync", "--daemon", "--no-detach", "--config="+f.write("rsyncd.conf", fmt.Sprintf(
		"use chroot = no\nuid = root\ngid = root\n[files]\npath = %s\n[here]\npath = %s\nread only = no\n", files, f.folder("rsync"))))
	f.serve("vsftpd", f.write("vsftpd.conf", "listen_ipv6=YES\nlisten=NO\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\n"+
		"anon_root="+files+"\nsecure_chroot_dir=/run/vsftpd/empty\nseccomp_sandbox=NO\nisolate_network=NO\nxferlog_enable=NO\n"+
		"ftp_username=daemon\n")) // its home is there on every machine
	f.serveSSH()
}

// servePrinter announces a printer of the world by mDNS.
func (f *field) servePrinter() {
	f.serve("sh", f.write("printer", "name=printer"+startAvahi+`
exec avahi-publish-service "Field Printer" _ipp._tcp 631 rp=queue
`))
}

// folder makes a folder for a service.
func (f *field) folder(name string) (path string) {
	f.t.Helper()
	path = filepath.Join(f.dir, name)
	require.NoError(f.t, os.MkdirAll(path, 0o755))
	return path
}

// serveSSH makes the keys of server and client, and their configurations. The client's key has to be its reader's alone.
func (f *field) serveSSH() {
	f.t.Helper()
	for _, name := range []string{"ssh-server", "ssh-client"} {
		outcome := f.onHost(f.write("keygen", "ssh-keygen -q -t ed25519 -N '' -f "+filepath.Join(f.dir, name)))
		require.Zero(f.t, outcome.Status, outcome.Output)
	}
	public, err := os.ReadFile(filepath.Join(f.dir, "ssh-server.pub"))
	require.NoError(f.t, err)
	known := f.write("ssh-known", "field "+string(public))
	f.write("ssh-config", fmt.Sprintf("Host field\nHostName %s\nHostKeyAlias field\nUser root\nIdentityFile %s\nIdentitiesOnly yes\n"+
		"UserKnownHostsFile %s\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\nBatchMode yes\n",
		fieldWorld, filepath.Join(f.dir, "ssh-client"), known))
	f.serve("sshd", "-D", "-e", "-f", f.write("sshd-config", fmt.Sprintf("HostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\n"+
		"PermitRootLogin yes\nPasswordAuthentication no\nPidFile none\nSubsystem sftp internal-sftp\nPrintMotd no\nPrintLastLog no\n",
		filepath.Join(f.dir, "ssh-server"), filepath.Join(f.dir, "ssh-client.pub"))))
}

// sumOf is the line of sha256sum for test data that it reads from its input.
func sumOf(seed uint64, n int64) string { return proto.PatternSum(seed, n) + "  -\n" }
