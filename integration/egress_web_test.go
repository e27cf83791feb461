package integration

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
)

// web is the servers of the internet for HTTP, TLS and what is like them, at every address.
type web struct {
	mux  *http.ServeMux
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // the certificate of the authority, as a file

	mu     sync.Mutex
	served []string // requests: name in TLS, Host, address and URI
}

// serveWeb starts the servers.
func serveWeb(e *egress) *web {
	w := &web{mux: http.NewServeMux()}
	w.makeAuthority(e)
	w.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(rw, "%s %s\n", r.Proto, r.Host)
	})
	w.mux.HandleFunc("/upgrade", upgrade)
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.note(r)
		w.mux.ServeHTTP(rw, r)
	})
	for _, port := range []int{80, 8081} {
		w.serve(e, e.listenTCP(port), handler)
	}
	for _, port := range []int{443, 8443, 853} {
		w.serve(e, tls.NewListener(e.listenTCP(port), w.config()), handler)
	}
	for _, port := range []int{3128, 8080} {
		e.serveTCP(port, func(c net.Conn) { proxyConnect(e, c) })
	}
	e.serveTCP(7000, func(c net.Conn) { _, _ = io.Copy(c, c) })
	for _, address := range []string{timeAddress, evilAddress} {
		e.serveEcho(address, 123)
	}
	return w
}

// serve serves HTTP until the end of the test.
func (w *web) serve(e *egress, l net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ErrorLog: nil, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.ErrorLog = quietLog()
	go func() { _ = server.Serve(l) }()
	e.t.Cleanup(func() { _ = server.Close() })
}

// upgrade changes to another protocol, whatever it is, and echoes what it is sent.
func upgrade(w http.ResponseWriter, _ *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

// note keeps what was asked for.
func (w *web) note(r *http.Request) {
	name := ""
	if r.TLS != nil {
		name = r.TLS.ServerName
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.served = append(w.served, fmt.Sprintf("%s %s %v %s", name, r.Host, r.Context().Value(http.LocalAddrContextKey), r.RequestURI))
}

// requests returns what was asked for since there were n requests.
func (w *web) requests(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.served[n:]...)
}

// makeAuthority makes the authority that all clients trust.
func (w *web) makeAuthority(e *egress) {
	var err error
	w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(e.t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &w.key.PublicKey, w.key)
	require.NoError(e.t, err)
	w.ca, err = x509.ParseCertificate(der)
	require.NoError(e.t, err)
	w.file = e.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// config returns the configuration of a server that has a certificate for each name.
func (w *web) config() *tls.Config {
	return &tls.Config{NextProtos: []string{"h2", "http/1.1"}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return w.certificate(hostOf(hello.ServerName), hello.Conn.LocalAddr())
	}}
}

// certificate makes a certificate for a name and an address.
func (w *web) certificate(name string, at net.Addr) (*tls.Certificate, error) {
	address := netip.MustParseAddrPort(at.String()).Addr().Unmap()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{address.AsSlice()}}
	if name != "" {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca, &w.key.PublicKey, w.key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: w.key}, err
}

// client returns the configuration of a client for a name.
func (w *web) client(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(w.ca)
	return &tls.Config{ServerName: name, RootCAs: pool}
}

// proxyConnect is a proxy that leads CONNECT anywhere in the internet.
func proxyConnect(e *egress, c net.Conn) {
	reader := bufio.NewReader(c)
	r, err := http.ReadRequest(reader)
	if err != nil || r.Method != http.MethodConnect {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	to := r.RequestURI
	if strings.HasPrefix(to, "evil.example:") {
		to = strings.Replace(to, "evil.example", evilAddress, 1)
	}
	var out net.Conn
	err = e.internet.Do(func() (err error) {
		out, err = net.DialTimeout("tcp", to, soon)
		return err
	})
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer out.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(out, reader) }()
	_, _ = io.Copy(c, out)
}
