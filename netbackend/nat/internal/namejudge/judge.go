package namejudge

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/netbackend/services/dnsmsg"
)

const (
	// Grace is how long an address is good for a name after the answer's time to live: guests keep answers somewhat longer, and connect again.
	Grace = 2 * time.Minute
	// maxTTL bounds that time to live, in seconds.
	maxTTL = 24 * 60 * 60
	// maxAliases is how many CNAME records in a row are followed, as resolvers do.
	maxAliases = 16
	// maxAddresses is how many addresses of an answer count. The others are taken out.
	maxAddresses = 64
)

// Judge judges for one queue pair of a guest. It is not safe for concurrent use.
type Judge struct {
	Policy   *policy.Policy
	Table    *witness.Table // of the guest
	Counters *stats.Counters
	NXDomain func() bool // what is refused does not exist, rather than that it is refused
}

// Wanted reports whether names are judged, or recorded, at all.
func (j *Judge) Wanted() bool { return j != nil && j.Policy.WantsNames() }

// Judges reports whether names are judged.
func (j *Judge) Judges() bool { return j.Wanted() && j.Policy.HasNameRules() }

// Query returns the answer to a query that goes no further, nil if it does. now is in nanoseconds, by the clock of the policy's.
func (j *Judge) Query(now int64, message []byte) (answer []byte) {
	if !j.Judges() {
		return nil
	}
	var q dns.Msg
	if q.Unpack(message) != nil || len(q.Question) != 1 {
		return j.refuse(message)
	}
	asked := q.Question[0]
	switch {
	case asked.Qclass != dns.ClassINET, !j.mayAsk(now, &asked):
		return j.refuse(message)
	case !isPlain(asked.Qtype):
		j.Counters.QueriesWithoutHints++
		return pack(reply(&q, dns.RcodeSuccess), message)
	}
	return nil
}

// Plain returns a query with nothing in it but its question, while there are rules by name: what else a guest has written into a message, as
// records, options of EDNS or bytes behind them, would reach resolvers beside names that rules allow. What cannot be read is returned as it is,
// for Query refuses it.
func (j *Judge) Plain(message []byte) []byte {
	if !j.Judges() {
		return message
	}
	var q dns.Msg
	if q.Unpack(message) != nil || len(q.Question) != 1 {
		return message
	}
	plain := dns.Msg{MsgHdr: dns.MsgHdr{
		Id: q.Id, RecursionDesired: q.RecursionDesired, AuthenticatedData: q.AuthenticatedData, CheckingDisabled: q.CheckingDisabled,
	}, Question: q.Question}
	if o := q.IsEdns0(); o != nil {
		plain.SetEdns0(o.UDPSize(), o.Do())
	}
	packed, err := plain.Pack()
	if err != nil {
		return message[:0]
	}
	return packed
}

// refuse is the answer to a question that rules close.
func (j *Judge) refuse(message []byte) []byte {
	j.Counters.QueriesDenied++
	code := dns.RcodeRefused
	if j.NXDomain != nil && j.NXDomain() {
		code = dns.RcodeNameError
	}
	var q dns.Msg
	if q.Unpack(message) != nil {
		q = dns.Msg{}
	}
	return pack(reply(&q, code), message)
}

// mayAsk reports whether rules let the guest ask about a name. The name of an address may be asked for if the guest was told the address.
func (j *Judge) mayAsk(now int64, q *dns.Question) bool {
	if a, ok := dnsmsg.AddrOf(q.Name); ok && q.Qtype == dns.TypePTR {
		addr := ipaddr.From(a)
		var names witness.Names
		return !j.Policy.Restricts() || j.Table.Names(now, &addr, &names) > 0
	}
	return j.Policy.JudgeQuestion(spec.CanonicalName(q.Name)).Verdict == policy.Allowed
}

// isPlain reports whether a type says nothing that leads around the rules: HTTPS and SVCB records (RFC 9460) hold addresses and keys
// for connections whose name nobody sees, and ANY may hold them as well. Of types that nobody knows here, nobody knows what they hold.
func isPlain(kind uint16) bool {
	return slices.Contains([]uint16{
		dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypePTR, dns.TypeNS, dns.TypeSOA, dns.TypeCAA,
		dns.TypeNAPTR, dns.TypeDS, dns.TypeDNSKEY, dns.TypeTLSA, dns.TypeSSHFP, dns.TypeURI, dns.TypeDNAME, dns.TypeNSEC, dns.TypeNSEC3PARAM,
	}, kind)
}

// Answer returns what the guest gets of an answer to its query, and records what that gives. The answer may be returned as it is.
func (j *Judge) Answer(now int64, query, answer []byte) []byte {
	if !j.Wanted() {
		return answer
	}
	var q, a dns.Msg
	switch {
	case q.Unpack(query) != nil || len(q.Question) != 1:
		return j.refuse(query)
	case a.Unpack(answer) != nil || !isAnswer(&q, &a):
		j.Counters.AnswersUnreadable++
		return pack(reply(&q, dns.RcodeServerFailure), query)
	case !j.Policy.HasNameRules():
		j.record(now, readChain(&q.Question[0], a.Answer))
		return answer
	case !j.mayAsk(now, &q.Question[0]):
		return j.refuse(query)
	case a.Rcode != dns.RcodeSuccess || !hasAddresses(q.Question[0].Qtype):
		return answer
	}
	return j.addresses(now, query, answer, &q, &a)
}

// Note records what an answer gives that is not judged, since the configuration has it.
func (j *Judge) Note(now int64, query, answer []byte) {
	var q, a dns.Msg
	if j.Wanted() && q.Unpack(query) == nil && len(q.Question) == 1 && a.Unpack(answer) == nil && isAnswer(&q, &a) {
		j.record(now, readChain(&q.Question[0], a.Answer))
	}
}

func hasAddresses(kind uint16) bool { return kind == dns.TypeA || kind == dns.TypeAAAA }

// isAnswer reports whether a is the answer to the question of q. Errors may lack the question.
func isAnswer(q, a *dns.Msg) bool {
	if len(a.Question) == 0 {
		return a.Rcode != dns.RcodeSuccess && len(a.Answer) == 0
	}
	asked, said := q.Question[0], a.Question[0]
	return a.Id == q.Id && a.Response && len(a.Question) == 1 && strings.EqualFold(asked.Name, said.Name) &&
		asked.Qtype == said.Qtype && asked.Qclass == said.Qclass
}

// addresses judges an answer about addresses.
func (j *Judge) addresses(now int64, query, answer []byte, q, a *dns.Msg) []byte {
	c := readChain(&q.Question[0], a.Answer)
	verdict := j.Policy.JudgeQuestion(c.name)
	if verdict.Listed && !j.areListed(c.aliases) {
		j.Counters.AnswersCut++
		return pack(reply(q, dns.RcodeSuccess), query)
	}
	before := len(c.addresses)
	c.addresses = slices.DeleteFunc(c.addresses, func(r address) bool { return !j.Policy.MayAnswer(&r.addr, &verdict) })
	if len(c.addresses) > maxAddresses {
		c.addresses = c.addresses[:maxAddresses]
	}
	j.record(now, c)
	if cut := before - len(c.addresses); cut > 0 || c.odd {
		j.Counters.AnswersCut++
		b := reply(q, dns.RcodeSuccess)
		b.RecursionAvailable, b.Truncated = a.RecursionAvailable, a.Truncated
		b.Answer = c.records()
		return pack(b, query)
	}
	return answer
}

// areListed reports whether all names are such that a rule allows them.
func (j *Judge) areListed(aliases []*dns.CNAME) bool {
	for _, alias := range aliases {
		q := j.Policy.JudgeQuestion(spec.CanonicalName(alias.Target))
		if q.Verdict != policy.Allowed || q.Rule < 0 {
			return false
		}
	}
	return true
}

// record tells the witness what an answer gives.
func (j *Judge) record(now int64, c chain) {
	if c.name == "" {
		return
	}
	for _, a := range c.addresses {
		until := now + int64(min(a.ttl, maxTTL))*int64(time.Second) + int64(Grace)
		if j.Table.Record(now, c.name, a.addr, until) {
			j.Counters.NamesForgotten++
		}
	}
}

// chain is what an answer says of the name that was asked.
type chain struct {
	name      string // as rules have it, "" if it is no name of a host
	aliases   []*dns.CNAME
	addresses []address
	odd       bool // something is there beside it, which was not asked for, or cannot be an address
}

// address is one that the name has.
type address struct {
	record dns.RR
	addr   ipaddr.Addr
	ttl    uint32 // the least along the chain, in seconds
}

// readChain finds the addresses of a name in an answer, along its CNAME records.
func readChain(q *dns.Question, records []dns.RR) (c chain) {
	c.name = spec.CanonicalName(q.Name)
	name, least := strings.ToLower(q.Name), uint32(maxTTL)
	for range maxAliases {
		alias := aliasOf(name, records)
		if alias == nil {
			break
		}
		c.aliases = append(c.aliases, alias)
		name, least = strings.ToLower(alias.Target), min(least, timeToLive(alias))
	}
	if len(c.aliases) == maxAliases && aliasOf(name, records) != nil {
		return chain{name: c.name, odd: true} // a loop, or longer than any that is meant to be followed
	}
	for _, r := range records {
		if r.Header().Class != dns.ClassINET || !strings.EqualFold(r.Header().Name, name) {
			continue
		}
		addr, isAddress := addressOf(r)
		switch {
		case !isAddress:
		case r.Header().Rrtype != q.Qtype || !addr.IsValid():
			c.odd = true
		default:
			c.addresses = append(c.addresses, address{r, ipaddr.From(addr), min(least, timeToLive(r))})
		}
	}
	return c
}

// aliasOf returns what a name is an alias of, nil for none. The first record counts.
func aliasOf(name string, records []dns.RR) *dns.CNAME {
	for _, r := range records {
		if alias, ok := r.(*dns.CNAME); ok && alias.Hdr.Class == dns.ClassINET && strings.EqualFold(alias.Hdr.Name, name) {
			return alias
		}
	}
	return nil
}

// addressOf returns the address that a record holds, and whether it is a record of addresses. An address of IPv4 in the form of IPv6 is
// none: the other type holds those.
func addressOf(r dns.RR) (a netip.Addr, isAddress bool) {
	switch r := r.(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(r.A.To4())
		return a, true
	case *dns.AAAA:
		if a, _ = netip.AddrFromSlice(r.AAAA); a.Is4In6() || a.Is4() {
			a = netip.Addr{}
		}
		return a, true
	}
	return a, false
}

// timeToLive is how long a record lives, in seconds. A number with the highest bit set stands for 0 (RFC 2181 section 8).
func timeToLive(r dns.RR) uint32 {
	ttl := r.Header().Ttl
	if ttl > 1<<31-1 {
		return 0
	}
	return ttl
}

// records are those of the chain.
func (c *chain) records() (all []dns.RR) {
	for _, alias := range c.aliases {
		all = append(all, alias)
	}
	for _, a := range c.addresses {
		all = append(all, a.record)
	}
	return all
}

// reply begins the answer to a query.
func reply(q *dns.Msg, code int) *dns.Msg {
	a := dnsmsg.Answer(q, code)
	a.RecursionAvailable = true
	a.Compress = true
	return a
}

// pack writes an answer to a query. What cannot be written is told as a header only.
func pack(a *dns.Msg, query []byte) []byte {
	b, err := a.Pack()
	if err != nil {
		return dnsmsg.Bare(query, dns.RcodeServerFailure)
	}
	return b
}
