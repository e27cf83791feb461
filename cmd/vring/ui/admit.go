package ui

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
)

// policy lets the page use what this server has, and nothing else: no script and no style within the page, and nothing of other servers.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; " +
	"frame-ancestors 'none'"

// secure sets the fields that tell a browser what the page may do, and what others may do with it.
func secure(h http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		h.Set(name, value)
	}
}

// admit returns why a request is not that of a user or of the page.
//
// A page of the web may have its own name resolved to the loopback, and then ask here: so the host is to be an address, or localhost. It
// may also ask here by the right address: browsers tell the page's origin then, or that it is another site.
func (s *Server) admit(r *http.Request) error {
	if !isLoopback(r.Host) {
		return fmt.Errorf("this page is not that of %q; open the address that vring has printed", cut(r.Host))
	}
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	if origin != "" && origin != "http://"+r.Host {
		return fmt.Errorf("the request comes from a page of %q", cut(origin))
	}
	opens := r.Method == http.MethodGet && r.URL.Path == "/" // which a link anywhere may do
	if site != "" && site != "same-origin" && site != "none" && !opens {
		return errors.New("the request comes from a page of another site")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && origin == "" {
		return fmt.Errorf("a %s must say by Origin which page it comes from", cut(r.Method))
	}
	return nil
}

// isLoopback reports whether a host, perhaps with a port, is an address of the loopback or localhost.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	address, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && address.IsLoopback() || strings.EqualFold(host, "localhost")
}

// login gives a browser that has the token a cookie, and leads it to an address without the token, which it may remember.
func (s *Server) login(w http.ResponseWriter, token string) {
	if !s.matches(token) {
		refuse(w, http.StatusUnauthorized, "the token is not that of this page: it has another one each time that it is started")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: s.cookie, Value: s.token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.Header().Set("Location", "/")
	w.WriteHeader(http.StatusSeeOther)
}

// known reports whether a request has the token.
func (s *Server) known(r *http.Request) bool {
	c, err := r.Cookie(s.cookie)
	return err == nil && s.matches(c.Value)
}

func (s *Server) matches(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) == 1
}

// changes are the paths that the page changes, by method.
var changes = map[string]*regexp.Regexp{
	http.MethodPatch:  regexp.MustCompile(`^/v1/(guests/[^/]+/)?forwards$`),
	http.MethodPut:    regexp.MustCompile(`^/v1/policy$`),
	http.MethodDelete: regexp.MustCompile(`^/v1/guests/[^/]+/flows$`),
}

// allowed reports whether a request is passed on: all that looks, and what the page changes.
func allowed(method, path string) bool {
	if method == http.MethodGet {
		return strings.HasPrefix(path, "/v1/")
	}
	paths := changes[method]
	return paths != nil && paths.MatchString(path)
}

// cut is a text of the client's that an answer repeats.
func cut(text string) string {
	const most = 100
	return text[:min(len(text), most)]
}
