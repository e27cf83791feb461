package integration

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// asking is what dig asks, and whether its answer may be given again.
type asking struct {
	name, args string
	isKept     bool
}

// askings have names of their own, so that the resolver's count tells who was asked.
func askings() []asking {
	return []asking{
		{"addresses", "+nocookie a1.dig.example A", true},
		{"addresses of IPv6", "+nocookie a2.dig.example AAAA", true},
		{"without EDNS", "+noedns a3.dig.example A", true},
		{"an alias", "+nocookie alias.dig.example A", true},
		{"with signatures", "+nocookie +dnssec a4.dig.example A", true},
		{"without a check", "+nocookie +cdflag +noadflag a5.dig.example A", true},
		{"in upper case", "+nocookie A6.DIG.example A", true},
		{"mail servers", "+nocookie a7.dig.example MX", true},
		{"texts", "+nocookie a8.dig.example TXT", true},
		{"a type that nobody knows", "+nocookie a9.dig.example TYPE65300", true},
		{"no such name", "+nocookie none1.dig.example A", true},
		{"no such name, with signatures", "+nocookie +dnssec none2.dig.example A", true},
		{"no such record", "+nocookie bare.dig.example A", true},
		{"by TCP", "+nocookie +tcp a10.dig.example A", true},
		{"what fits no datagram", "+nocookie +tcp long.dig.example TXT", true},
		{"with a cookie", "a11.dig.example A", false},
		{"a failure", "+nocookie fails.dig.example A", false},
		{"a refusal", "+nocookie refused.dig.example A", false},
		{"an answer without a life", "+nocookie brief.dig.example A", false},
	}
}

// digResolver is a resolver with names for dig, which counts what it is asked by datagram or connection, whichever the answer fits.
type digResolver struct {
	mu    sync.Mutex
	asked map[string]int
}

func (r *digResolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := strings.ToLower(q.Question[0].Name)
	m := digAnswer(q, strings.TrimSuffix(name, ".dig.example."))
	if _, isDatagram := w.RemoteAddr().(*net.UDPAddr); isDatagram {
		m.Truncate(sizeFor(q))
	}
	if !m.Truncated {
		r.mu.Lock()
		r.asked[name]++
		r.mu.Unlock()
	}
	_ = w.WriteMsg(m)
}

func digAnswer(q *dns.Msg, label string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable, m.AuthenticatedData = true, q.AuthenticatedData
	o := q.IsEdns0()
	if o != nil {
		m.SetEdns0(1232, o.Do())
	}
	name := q.Question[0].Name
	add := func(text string) { m.Answer = append(m.Answer, record(name+" "+text)) }
	switch {
	case label == "fails":
		m.Rcode = dns.RcodeServerFailure
	case label == "refused":
		m.Rcode = dns.RcodeRefused
	case label == "brief":
		add("0 A 192.0.2.1")
	case label == "bare" || strings.HasPrefix(label, "none"):
		m.Ns = append(m.Ns, record("dig.example. 900 SOA ns.dig.example. mail.dig.example. 1 7200 3600 86400 600"))
		if label != "bare" {
			m.Rcode = dns.RcodeNameError
		}
	case label == "alias":
		add("400 CNAME a1.dig.example.")
		m.Answer = append(m.Answer, record("a1.dig.example. 300 A 192.0.2.1"))
	case label == "long":
		for i := range 12 {
			add(fmt.Sprintf("%d TXT %s", 500+i, strings.Repeat("x", 200)))
		}
	default:
		switch q.Question[0].Qtype {
		case dns.TypeA:
			add("300 A 192.0.2.1")
			add("200 A 192.0.2.2")
		case dns.TypeAAAA:
			add("300 AAAA 2001:db8::1")
		case dns.TypeMX:
			add("300 MX 10 mail.dig.example.")
			m.Extra = append([]dns.RR{record("mail.dig.example. 700 A 192.0.2.25")}, m.Extra...)
		case dns.TypeTXT:
			add("300 TXT one two")
		default:
			add("300 TYPE65300 \\# 2 abcd")
		}
	}
	if o != nil && o.Do() && len(m.Answer) > 0 {
		add("300 RRSIG A 13 3 300 20380101000000 20200101000000 1 dig.example. c2lnbmF0dXJl")
	}
	return m
}

var (
	digID  = regexp.MustCompile(`id: \d+`)
	digTTL = regexp.MustCompile(`(?m)^([^;\s]\S*\s+)(\d+)(\s+IN\s)`)
)

// read takes the identifier and the times to live out of what dig prints.
func read(t *testing.T, printed string) (text string, lives []int) {
	for _, m := range digTTL.FindAllStringSubmatch(printed, -1) {
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		lives = append(lives, n)
	}
	return digTTL.ReplaceAllString(digID.ReplaceAllString(printed, "id"), "$1-$3"), lives
}

// What a guest is told by vring is what it would be told by the resolver, and so is what it is told again.
func TestDigIsAnsweredByTheCacheAsByTheResolver(t *testing.T) {
	t.Parallel()
	const port = 5300
	e := newEgress(t)
	r := &digResolver{asked: map[string]int{}}
	var datagrams net.PacketConn
	require.NoError(t, e.internet.Do(func() (err error) {
		datagrams, err = net.ListenPacket("udp4", fmt.Sprintf("%s:%d", resolver, port))
		return err
	}))
	for _, server := range []*dns.Server{{PacketConn: datagrams}, {Listener: e.listenTCP(port)}} {
		server.Handler = r
		go func() { _ = server.ActivateAndServe() }()
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	e.start("--dns", fmt.Sprintf("%s:%d", resolver, port), "--dns-cache")

	// digs asks all that there is, so often, and returns what is printed for each.
	digs := func(who, server string, times int, run func(*testing.T, honest) string) (all [][]string) {
		script := ""
		for _, a := range askings() {
			for range times {
				script += fmt.Sprintf("dig @%s +tries=1 +time=30 +noall +comments +question +answer +authority +additional %s; echo ====\n", server, a.args)
			}
		}
		printed := strings.Split(run(t, honest{name: who, userland: userland.Forky, script: script}), "====\n")
		require.Len(t, printed, times*len(askings())+1, "%s", printed)
		for i := range askings() {
			all = append(all, printed[i*times:(i+1)*times])
		}
		return all
	}
	direct := digs("direct", fmt.Sprintf("%s -p %d", resolver, port), 1, e.onHost)
	through := digs("through", "10.0.2.3", 2, e.inGuest)
	for i, a := range askings() {
		t.Run(a.name, func(t *testing.T) {
			want, lives := read(t, direct[i][0])
			require.Contains(t, want, "status: ")
			first, same := read(t, through[i][0])
			require.Equal(t, want, first)
			require.Equal(t, lives, same)
			again, less := read(t, through[i][1])
			require.Equal(t, want, again)
			require.Len(t, less, len(lives))
			for j, n := range less {
				if a.isKept {
					require.True(t, 0 < n && n < lives[j], "%d of %d seconds are left", n, lives[j])
				} else {
					require.Equal(t, lives[j], n)
				}
			}
			fields := strings.Fields(a.args)
			name := strings.ToLower(fields[len(fields)-2]) + "."
			require.Equal(t, map[bool]int{true: 2, false: 3}[a.isKept], r.asked[name], "how often the resolver was asked")
		})
	}
}
