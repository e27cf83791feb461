package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// ProxyKind is what a proxy speaks.
type ProxyKind uint8

const (
	// NoProxy is that nothing is said of a proxy.
	NoProxy ProxyKind = iota
	// Directly is that no proxy is used, where a default would name one.
	Directly
	// SOCKS5 is RFC 1928, with user name and password of RFC 1929.
	SOCKS5
	// HTTPConnect is the method CONNECT (RFC 9110 section 9.3.6), with Basic authentication (RFC 7617).
	HTTPConnect
)

// Proxy is a proxy by which connections leave. It can be compared.
type Proxy struct {
	Kind           ProxyKind
	At             netip.AddrPort
	User, Password string // both empty without authentication; up to MaxCredential bytes each
}

// MaxCredential is the length in bytes that a proxy's user name and password may have (RFC 1929 section 2).
const MaxCredential = 255

// ProxyForm is what ParseProxy reads.
const ProxyForm = "socks5://[USER:PASSWORD@]ADDRESS:PORT, http://[USER:PASSWORD@]ADDRESS:PORT or direct"

const (
	direct = "direct"
	// mask stands for a password where users and logs can read it.
	mask = "***"
)

// IsUsed reports whether connections are to leave by p.
func (p *Proxy) IsUsed() bool { return p.Kind == SOCKS5 || p.Kind == HTTPConnect }

// ParseProxy reads ProxyForm. Special characters of user name and password are written with a percent sign, as in URLs. No error holds
// either of them.
func ParseProxy(text string) (Proxy, error) {
	if text == direct {
		return Proxy{Kind: Directly}, nil
	}
	p, err := readProxy(text)
	if err != nil {
		return Proxy{}, fmt.Errorf("proxy %q: %w; want %s, as in socks5://192.0.2.1:1080", shown(text), err, ProxyForm)
	}
	return p, nil
}

// shown is what an error quotes of a proxy that could not be read: no password, and nothing that could be one whose end was cut off.
func shown(text string) string {
	before, after, found := cutLast(text)
	if found && strings.Contains(before, "://") && !strings.Contains(text, "@") && strings.Trim(after, "0123456789") != "" {
		return before + ":"
	}
	return MaskSecrets(text)
}

func readProxy(text string) (p Proxy, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return p, errors.New("it is no URL")
	}
	if p.Kind, err = proxyKind(scheme); err != nil {
		return p, err
	}
	rest = strings.TrimSuffix(rest, "/")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if p.User, p.Password, err = readCredentials(rest[:i]); err != nil {
			return p, err
		}
		rest = rest[i+1:]
	}
	p.At, err = readProxyAddress(rest)
	return p, err
}

func proxyKind(scheme string) (ProxyKind, error) {
	switch scheme {
	case "socks5", "socks5h": // who distinguishes the two says by the h that the proxy resolves names, as it always does here
		return SOCKS5, nil
	case "http":
		return HTTPConnect, nil
	case "https":
		return 0, errors.New("vring does not speak TLS to proxies; write http:// if the proxy takes that")
	case "socks4", "socks4a", "socks":
		return 0, errors.New("vring speaks SOCKS 5 only; write socks5:// if the proxy does")
	}
	return 0, fmt.Errorf("%q is not a kind of proxy that vring knows", scheme)
}

// readCredentials reads USER:PASSWORD. Its errors do not quote it.
func readCredentials(text string) (user, password string, err error) {
	u, p, _ := strings.Cut(text, ":")
	user, err1 := url.PathUnescape(u)
	password, err2 := url.PathUnescape(p)
	if err1 != nil || err2 != nil {
		return "", "", errors.New("user name or password has a percent sign that two hexadecimal digits do not follow; the sign itself is %25")
	}
	if password == mask {
		return "", "", fmt.Errorf("the password is %s, as vring prints it so that nobody reads it; write the password itself", mask)
	}
	return user, password, checkCredentials(user, password)
}

// checkCredentials returns why no proxy could be told a user name and a password, and quotes neither.
func checkCredentials(user, password string) error {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case user == "" && password != "":
		return errors.New("there is a password without a user name")
	case len(user) > MaxCredential || len(password) > MaxCredential:
		return fmt.Errorf("user name and password have %d bytes at most each (RFC 1929)", MaxCredential)
	case strings.ContainsFunc(user+password, isControl):
		return errors.New("user name or password has a control character")
	}
	return nil
}

func readProxyAddress(text string) (at netip.AddrPort, err error) {
	addr, port, hasPort := cutLast(strings.Replace(text, "localhost:", "127.0.0.1:", 1))
	if !hasPort {
		return at, errors.New("its address or its port is missing")
	}
	a, err := parseBracketed(addr)
	if err != nil {
		return at, fmt.Errorf("%w; a proxy is named by its address, for the guest's name service may be what it is to lead to", err)
	}
	n, err := parsePort(port)
	if err != nil {
		return at, errors.New("its port is not a number between 1 and 65535")
	}
	return netip.AddrPortFrom(a, n), nil
}

// Check tells what is wrong with p by itself.
func (p *Proxy) Check() error {
	if !p.IsUsed() {
		return nil
	}
	if a := p.At.Addr(); !isOneHost(a) || p.At.Port() == 0 {
		return fmt.Errorf("proxy %s: want the address of one host and a port", p)
	}
	err := checkCredentials(p.User, p.Password)
	if err == nil && p.Kind == HTTPConnect && strings.Contains(p.User, ":") {
		err = errors.New("a user name of HTTP has no colon (RFC 7617)")
	}
	if err == nil && p.Kind == SOCKS5 && p.User != "" && p.Password == "" {
		err = errors.New("SOCKS 5 knows no user name without a password (RFC 1929)")
	}
	if err != nil {
		return fmt.Errorf("proxy %s: %w", p, err)
	}
	return nil
}

// String returns p for users and logs: the password is not in it.
func (p Proxy) String() string { return p.text(mask) }

// Text returns p as ParseProxy reads it, with its password.
func (p Proxy) Text() string { return p.text(escape(p.Password)) }

func (p *Proxy) text(password string) string {
	scheme := "socks5://"
	switch p.Kind {
	case NoProxy:
		return ""
	case Directly:
		return direct
	case HTTPConnect:
		scheme = "http://"
	}
	credentials := ""
	if p.User != "" {
		credentials = escape(p.User)
		if p.Password != "" {
			credentials += ":" + password
		}
		credentials += "@"
	}
	return scheme + credentials + bracketed(p.At.Addr()) + ":" + strconv.Itoa(int(p.At.Port()))
}

// escape writes what stands in front of a URL's host so that neither a URL nor a list of keys ends in it.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// MaskAllSecrets returns text, which may have many URLs that were read and written again, with their passwords replaced.
func MaskAllSecrets(text string) string {
	return regexp.MustCompile(`://([^\s:/@]+):[^\s:/@]+@`).ReplaceAllString(text, "://$1:"+mask+"@")
}

// MaskSecrets returns text, which may be anything that a user has written, with what may be a password of a URL replaced.
func MaskSecrets(text string) string {
	start := strings.Index(text, "://")
	if start < 0 {
		return text
	}
	start += len("://")
	end := strings.LastIndexByte(text, '@')
	if end < start {
		return text
	}
	user, _, hasPassword := strings.Cut(text[start:end], ":")
	if !hasPassword {
		return text
	}
	return text[:start] + user + ":" + mask + text[end:]
}
