package gvproxy

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// tunnels are connections by SSH to the guest. There is one for each user, key and port, which all of its sockets share.
type tunnels struct {
	to asker

	mu  sync.Mutex
	all map[string]*ssh.Client
}

func newSSH(to asker) *tunnels { return &tunnels{to: to, all: map[string]*ssh.Client{}} }

// dial connects to the unix socket of the guest that a URI names.
func (t *tunnels) dial(ctx context.Context, uri *url.URL) (net.Conn, error) {
	for again := false; ; again = true {
		c, fresh, err := t.client(ctx, uri)
		if err != nil {
			return nil, err
		}
		conn, err := c.Dial("unix", uri.Path)
		if err == nil || fresh || again {
			return conn, err
		}
		t.forget(uri, c) // it may have ended with a boot of the guest
	}
}

// client returns the connection for a URI, which is made if there is none. fresh says that it was.
func (t *tunnels) client(ctx context.Context, uri *url.URL) (c *ssh.Client, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.all[keyOf(uri)]; ok {
		return c, false, nil
	}
	key, err := os.ReadFile(uri.Query().Get("key"))
	if err != nil {
		return nil, false, err
	}
	signer, err := parseKey(key, uri.Query().Get("passphrase"))
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", uri.Query().Get("key"), err)
	}
	port := uri.Port()
	if port == "" {
		port = "22"
	}
	conn, err := t.to.dial(ctx, net.JoinHostPort(uri.Hostname(), port))
	if err != nil {
		return nil, false, err
	}
	// As with gvproxy, whatever key the guest has is its own: nobody is between this process and the guest.
	secure, channels, requests, err := ssh.NewClientConn(conn, uri.Host, &ssh.ClientConfig{
		User: uri.User.Username(), Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec
	})
	if err != nil {
		_ = conn.Close()
		return nil, false, err
	}
	c = ssh.NewClient(secure, channels, requests)
	t.all[keyOf(uri)] = c
	return c, true, nil
}

func parseKey(key []byte, passphrase string) (ssh.Signer, error) {
	if passphrase != "" {
		return ssh.ParsePrivateKeyWithPassphrase(key, []byte(passphrase))
	}
	return ssh.ParsePrivateKey(key)
}

func (t *tunnels) forget(uri *url.URL, c *ssh.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[keyOf(uri)] == c {
		delete(t.all, keyOf(uri))
		_ = c.Close()
	}
}

func keyOf(uri *url.URL) string {
	return uri.User.Username() + "@" + uri.Host + "?" + uri.RawQuery
}
