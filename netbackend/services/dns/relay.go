package dns

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// DefaultFile is where the host keeps its resolvers.
	DefaultFile = "/etc/resolv.conf"
	// Port is that of DNS over UDP and TCP (RFC 1035 section 4.2).
	Port = 53

	recheck  = int64(time.Second)      // how long a look at the file is good for
	setAside = int64(10 * time.Second) // how long a resolver that failed is the last choice
	// maxResolvers bounds what is taken from the file. The C library stops at 3.
	maxResolvers = 16
	// MaxFile bounds how many bytes of the file are looked at.
	MaxFile = 32 << 10
	// maxDatagram is what we say that we take by UDP: what passes everywhere without fragments.
	maxDatagram = 1232
)

// Config tells where resolvers come from.
type Config struct {
	// Resolvers are asked in this order. If there are any, File is not looked at.
	Resolvers []netip.AddrPort
	// File is a resolv.conf(5) file, looked at again each second in which it is asked for.
	File string
	// Read reads File; nil stands for ReadOrEmpty. An error leaves the resolvers that are known.
	Read func(file string) ([]byte, error)
	// Usable tells whether the engine can reach a resolver at that address; nil takes all.
	Usable func(netip.Addr) bool
}

// Relay knows the resolvers.
type Relay struct {
	cfg Config

	mu      sync.Mutex
	list    []resolver
	checked int64  // when the file was last looked at
	known   bool   // whether it ever was
	text    []byte // the file as list was read from it
	conf    resolvConf
	empty   bool // the last look found no resolver
}

// resolver is one name server and its recent past.
type resolver struct {
	addr   netip.AddrPort
	failed int64 // until when it is the last choice
}

// New returns a Relay. It does not fail: without a resolver, queries are answered with SERVFAIL until one is known.
func New(cfg Config) *Relay {
	r := &Relay{cfg: cfg}
	if cfg.Read == nil {
		r.cfg.Read = ReadOrEmpty
	}
	for _, a := range cfg.Resolvers {
		r.add(a)
	}
	return r
}

// Decide tells what to do with one query of the guest, a whole message that cannot change meanwhile. If to is valid, the
// query goes to that resolver as it is; otherwise answer is for the guest, and nil if nothing is due. now is a monotonic
// clock in nanoseconds.
func (r *Relay) Decide(now int64, query []byte) (to netip.AddrPort, answer []byte) {
	if to, ok := r.Resolver(now); ok {
		return to, nil
	}
	return netip.AddrPort{}, failure(query)
}

// Resolver returns the resolver to ask at now, in nanoseconds of a monotonic clock: the first that did not fail lately,
// or the first of all if every one did. ok is false if none is known.
func (r *Relay) Resolver(now int64) (to netip.AddrPort, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(now)
	for _, v := range r.list {
		if v.failed <= now {
			return v.addr, true
		}
	}
	if len(r.list) == 0 {
		return netip.AddrPort{}, false
	}
	return r.list[0].addr, true
}

// Search returns the domains in which the host looks names up, in their order, and nil if there are none: those of "search"
// or "domain" in the file, without a dot at the end, at most 32. With Config.Resolvers there are none. The list is shared:
// nobody may change it. now is as for Resolver.
func (r *Relay) Search(now int64) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(now)
	return r.conf.search
}

// Failed tells that the resolver to did not answer, or refused a connection, at now. Others are preferred for a while.
func (r *Relay) Failed(now int64, to netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		if r.list[i].addr == to {
			r.list[i].failed = now + setAside
		}
	}
}

// refresh looks at the file again.
func (r *Relay) refresh(now int64) {
	if len(r.cfg.Resolvers) > 0 || r.cfg.File == "" || r.known && now-r.checked < recheck {
		return
	}
	r.checked, r.known = now, true
	text, err := r.cfg.Read(r.cfg.File)
	if err != nil || len(text) > 0 && bytes.Equal(text, r.text) {
		return
	}
	conf := parseResolvConf(text)
	// A file that is being written is empty for an instant: that there is no resolver any more is believed the second time.
	before := r.empty
	r.empty = len(conf.servers) == 0
	if r.empty && !before && len(r.list) > 0 {
		return
	}
	r.list, r.text, r.conf = nil, text, conf
	for _, a := range conf.servers {
		r.add(netip.AddrPortFrom(a, Port))
	}
}

// ReadFile reads the first MaxFile bytes of a regular file. It does not wait for anything else that lies there.
func ReadFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, MaxFile))
}

// ReadOrEmpty is ReadFile, for which a file that cannot be read is an empty one.
func ReadOrEmpty(path string) ([]byte, error) {
	text, err := ReadFile(path)
	if err != nil {
		return nil, nil
	}
	return text, nil
}

// add appends a resolver unless it is known already or of no use.
func (r *Relay) add(a netip.AddrPort) {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	ip := a.Addr()
	if !a.IsValid() || a.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || len(r.list) == maxResolvers {
		return
	}
	if r.cfg.Usable != nil && !r.cfg.Usable(ip) {
		return
	}
	if slices.ContainsFunc(r.list, func(v resolver) bool { return v.addr == a }) {
		return
	}
	r.list = append(r.list, resolver{addr: a})
}

// failure returns the SERVFAIL answer to query, nil if it is not a query at all. It must not answer answers, or two
// servers could keep each other busy.
func failure(query []byte) []byte {
	var q dns.Msg
	if q.Unpack(query) != nil || q.Response {
		return nil
	}
	a := new(dns.Msg).SetRcode(&q, dns.RcodeServerFailure)
	if opt := q.IsEdns0(); opt != nil { // RFC 6891 section 6.1.1
		a.SetEdns0(maxDatagram, opt.Do())
	}
	b, err := a.Pack()
	if err != nil {
		return nil
	}
	return b
}
