package filter

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxText bounds the text of a filter, in bytes.
	MaxText = 2048
	// maxNested bounds how deep conditions, and arithmetic, are nested in parentheses and negations.
	maxNested = 32
)

// Parse compiles a text. An empty one selects all frames. The error says what is not understood, and where.
func Parse(text string) (*Program, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("the filter has %d bytes: want at most %d", len(text), MaxText)
	}
	if strings.TrimSpace(text) == "" {
		return &Program{}, nil
	}
	for i := range len(text) {
		if text[i] >= 0x7f || text[i] < ' ' && !strings.ContainsRune(blanks, rune(text[i])) {
			return nil, fmt.Errorf("the filter has a byte %#x: want ASCII", text[i])
		}
	}
	p := &parser{text: text}
	n, err := p.conditions()
	if p.depth > maxNested {
		return nil, fmt.Errorf("the filter is nested too deep: want at most %d levels", maxNested)
	}
	if err != nil {
		return nil, err
	}
	if !p.atEnd() {
		return nil, p.wrong("want and, or, or the end")
	}
	return generate(n)
}

// blanks separate words.
const blanks = " \t\r\n"

// parser reads a text from pos on.
type parser struct {
	text  string
	pos   int
	depth int
	// usual are the qualifiers of the value before, which one behind "and" or "or" has too if it has none of its own; nil for none.
	usual *qualifiers
}

// wrong is an error at the present place.
func (p *parser) wrong(format string, args ...any) error {
	p.skipBlanks()
	near := p.text[p.pos:]
	if near == "" {
		near = "its end"
	} else {
		near = strconv.Quote(near[:min(len(near), 24)])
	}
	return fmt.Errorf("filter, near %s: %s", near, fmt.Sprintf(format, args...))
}

type any = interface{}

func (p *parser) skipBlanks() {
	for p.pos < len(p.text) && strings.IndexByte(blanks, p.text[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) atEnd() bool {
	p.skipBlanks()
	return p.pos == len(p.text)
}

// sign reads one of some signs, longer ones first, and returns "" if none is there.
func (p *parser) sign(signs ...string) string {
	p.skipBlanks()
	for _, s := range signs {
		if strings.HasPrefix(p.text[p.pos:], s) {
			p.pos += len(s)
			return s
		}
	}
	return ""
}

// peek returns the next word, "" for none, without reading it: a name, number or address.
func (p *parser) peek() string {
	p.skipBlanks()
	end := p.pos
	for end < len(p.text) && isOfWord(p.text[end]) {
		end++
	}
	return p.text[p.pos:end]
}

func isOfWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(`.:/\-_`, c) >= 0
}

// word reads one of some words, and returns "" if none is there.
func (p *parser) word(words ...string) string {
	if w := p.peek(); slices.Contains(words, w) {
		p.pos += len(w)
		return w
	}
	return ""
}

// joined reads "and" or "or".
func (p *parser) joined() (isAnd, ok bool) {
	switch {
	case p.word("and") != "" || p.sign("&&") != "":
		return true, true
	case p.word("or") != "" || p.sign("||") != "":
		return false, true
	}
	return false, false
}

// negated reads "not".
func (p *parser) negated() bool {
	p.skipBlanks()
	if p.word("not") != "" {
		return true
	}
	if strings.HasPrefix(p.text[p.pos:], "!=") {
		return false
	}
	return p.sign("!") != ""
}

// errTooDeep ends all that is being read.
var errTooDeep = errors.New("nested too deep")

// enter counts what is nested. Once that is too deep, it stays so.
func (p *parser) enter() error {
	if p.depth++; p.depth > maxNested {
		return errTooDeep
	}
	return nil
}

func (p *parser) leave() {
	if p.depth <= maxNested {
		p.depth--
	}
}

// conditions reads conditions with "and" and "or" between. Both bind alike, from left to right, as in tcpdump.
func (p *parser) conditions() (node, error) {
	p.usual = nil
	n, err := p.condition()
	for err == nil {
		isAnd, ok := p.joined()
		if !ok {
			return n, nil
		}
		var next node
		if next, err = p.condition(); err != nil {
			break
		}
		if isAnd {
			n = both{n, next}
		} else {
			n = either{n, next}
		}
	}
	return nil, err
}

// condition reads one, with what negates it.
func (p *parser) condition() (node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	if p.negated() {
		n, err := p.condition()
		return not{n}, err
	}
	if n, err := p.comparison(); n != nil || err != nil {
		p.usual = nil
		return n, err
	}
	if p.sign("(") != "" {
		n, err := p.conditions()
		if err == nil && p.sign(")") == "" {
			err = p.wrong("want )")
		}
		p.usual = nil
		return n, err
	}
	return p.primitive()
}

// comparison reads a comparison of arithmetic values. There is none, and nothing is read, if n is nil and err as well.
func (p *parser) comparison() (n node, err error) {
	start := p.pos
	left, sure, err := p.arithmetic()
	if err == nil {
		for _, c := range comparisons {
			if p.sign(c.text) == "" {
				continue
			}
			right, _, err := p.arithmetic()
			if err != nil {
				return nil, err
			}
			return compare(left, right, c.op, c.negated)
		}
		err = p.wrong("want a comparison")
	}
	if sure {
		return nil, err
	}
	p.pos = start
	return nil, nil
}

// operators are those of arithmetic.
var operators = map[string]uint16{
	"+": opAdd, "-": opSub, "*": opMul, "/": opDiv, "&": opAnd, "|": opOr, "<<": opShiftLeft, ">>": opShiftRight,
}

// operator reads an operator of arithmetic.
func (p *parser) operator() string {
	p.skipBlanks()
	for _, other := range []string{"&&", "||"} {
		if strings.HasPrefix(p.text[p.pos:], other) {
			return ""
		}
	}
	return p.sign("<<", ">>", "+", "-", "*", "/", "&", "|")
}

// arithmetic reads an arithmetic value. Several operators want parentheses unless they are the same, or it is plain what
// they mean. It is sure if nothing else can be meant.
func (p *parser) arithmetic() (v value, sure bool, err error) {
	v, sure, err = p.operand()
	if err != nil {
		return nil, sure, err
	}
	before := ""
	for {
		op := p.operator()
		if op == "" {
			return v, sure, nil
		}
		if before != "" && before != op {
			return nil, sure, p.wrong("%s behind %s: use parentheses", op, before)
		}
		before = op
		right, _, err := p.operand()
		if err != nil {
			return nil, sure, err
		}
		v = operation{operators[op], v, right}
	}
}

// operand reads a number, a field, or arithmetic in parentheses.
func (p *parser) operand() (v value, sure bool, err error) {
	if err := p.enter(); err != nil {
		return nil, true, err
	}
	defer p.leave()
	switch {
	case p.sign("(") != "":
		v, sure, err = p.arithmetic()
		if err == nil && p.sign(")") == "" {
			err = p.wrong("want )")
		}
		return v, sure && err == nil, err // else it may be a condition in parentheses
	case p.sign("-") != "":
		v, _, err = p.operand()
		return negation{v}, true, err
	}
	name := p.lexeme()
	start := p.pos
	p.pos += len(name)
	if k, found := constants[name]; found {
		return number(k), true, nil
	}
	if name == "len" {
		return frameLen{}, true, nil
	}
	if of, found := headers()[name]; found && p.sign("[") != "" {
		v, err := p.field(of)
		return v, true, err
	}
	p.pos = start
	n, err := p.number()
	return number(n), false, err
}

// lexeme returns the name or number that comes next in arithmetic, "" for none, as tcpdump cuts it: "len-5" is one name.
func (p *parser) lexeme() string {
	p.skipBlanks()
	end := p.pos
	for end < len(p.text) && isOfWord(p.text[end]) && strings.IndexByte(`:/\`, p.text[end]) < 0 {
		end++
	}
	return strings.TrimRight(p.text[p.pos:end], "-_")
}

// number reads a number without a sign, in decimal or as 0x and hexadecimal digits.
func (p *parser) number() (uint32, error) {
	digits := p.lexeme()
	n, err := parseNumber(digits)
	if err != nil {
		return 0, p.wrong("%v", err)
	}
	p.pos += len(digits)
	return n, nil
}

// parseNumber is strict: a number with a 0 in front is octal for tcpdump, which few know.
func parseNumber(text string) (uint32, error) {
	digits, base := text, 10
	if hex, is := strings.CutPrefix(text, "0x"); is {
		digits, base = hex, 16
	} else if len(text) > 1 && text[0] == '0' {
		return 0, fmt.Errorf("%q: write it without 0 in front", text)
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || strings.HasPrefix(digits, "+") {
		return 0, fmt.Errorf("want a number, not %q", text)
	}
	return uint32(n), nil
}

// field reads the rest of a field behind its bracket.
func (p *parser) field(of header) (value, error) {
	index, _, err := p.arithmetic()
	if err != nil {
		return nil, err
	}
	size := uint32(1)
	if p.sign(":") != "" {
		if size, err = p.number(); err != nil {
			return nil, err
		}
	}
	if size != 1 && size != 2 && size != 4 {
		return nil, p.wrong("a field has 1, 2 or 4 bytes, not %d", size)
	}
	if p.sign("]") == "" {
		return nil, p.wrong("want ]")
	}
	f := field{of, index, int(size)}
	_, err = f.code(0) // to tell of a bad index where it is
	return f, err
}

// constants are names of numbers.
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8,
	"icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134,
	"icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
}

// qualifiers say what a value is of.
type qualifiers struct {
	proto, kind string // "" for none
	dir         direction
	hasDir      bool
}

// protocols are the words that stand for one, alone or before others.
var protocols = map[string]func() node{
	"tcp":   func() node { return ipProto(protoTCP) },
	"udp":   func() node { return ipProto(protoUDP) },
	"sctp":  func() node { return ipProto(protoSCTP) },
	"ah":    func() node { return ipProto(protoAH) },
	"esp":   func() node { return ipProto(protoESP) },
	"icmp":  func() node { return ipv4Proto(protoICMP) },
	"igmp":  func() node { return ipv4Proto(protoIGMP) },
	"icmp6": func() node { return ipv6Proto(protoICMPv6) },
	"ip":    func() node { return etherType(etherIPv4) },
	"ip6":   func() node { return etherType(etherIPv6) },
	"arp":   func() node { return etherType(etherARP) },
	"rarp":  func() node { return etherType(etherRARP) },
	"ether": nil, // not alone
}

// kinds are the words for what a value is.
var kinds = []string{"host", "net", "port", "portrange", "proto"}

// primitive reads a condition without parentheses, negation or arithmetic.
func (p *parser) primitive() (node, error) {
	w := p.peek()
	switch w {
	case "":
		return nil, p.wrong("want a condition")
	case "less", "greater":
		p.usual = nil
		return p.lengthIs(p.word(w))
	}
	q, err := p.qualifiers()
	if err != nil {
		return nil, err
	}
	if q == (qualifiers{}) {
		return p.bare(w)
	}
	if q.kind == "" && !q.hasDir {
		return p.protocol(q.proto)
	}
	if q.kind == "" {
		q.kind = "host"
	}
	p.usual = &q
	return p.values(q)
}

// lengthIs reads the number of a condition on the length.
func (p *parser) lengthIs(how string) (node, error) {
	n, err := p.number()
	if how == "less" {
		return not{test{[]Instruction{{Op: opLoadLen}}, opGreater, n}}, err
	}
	return test{[]Instruction{{Op: opLoadLen}}, opNotLess, n}, err
}

// qualifiers reads what stands before a value.
func (p *parser) qualifiers() (q qualifiers, err error) {
	w := p.peek()
	if _, found := protocols[w]; found {
		q.proto = p.word(w)
	}
	q.dir, q.hasDir, err = p.direction()
	q.kind = p.word(kinds...)
	return q, err
}

// direction reads which end is meant.
func (p *parser) direction() (d direction, ok bool, err error) {
	one := p.word("src", "dst")
	if one == "" {
		return srcOrDst, false, nil
	}
	d = map[string]direction{"src": src, "dst": dst}[one]
	start := p.pos
	isAnd, joined := p.joined()
	other := ""
	if joined {
		other = p.word("src", "dst")
	}
	// "src or dst port 80" is one direction; "src 192.0.2.1 or dst ..." never comes here with a value between.
	switch {
	case other == "":
		p.pos = start
		return d, true, nil
	case other == one:
		return d, true, p.wrong("%s is there twice", one)
	case isAnd:
		return srcAndDst, true, nil
	}
	return srcOrDst, true, nil
}

// bare reads a value without qualifiers: it has those of the value before.
func (p *parser) bare(w string) (node, error) {
	switch {
	case w == "broadcast" || w == "multicast":
		return p.cast("ether")
	case p.usual != nil:
		return p.value(*p.usual)
	}
	return nil, p.wrong("there is no %q in this part of tcpdump's language; say host, net or port before a value", w)
}

// protocol reads what stands behind the name of a protocol that has no qualifiers.
func (p *parser) protocol(name string) (node, error) {
	p.usual = nil
	if w := p.peek(); w == "broadcast" || w == "multicast" {
		return p.cast(name)
	}
	if n := protocols[name]; n != nil {
		return n(), nil
	}
	return nil, p.wrong("%s: want src, dst, host, proto, broadcast or multicast", name)
}

// cast reads "broadcast" or "multicast".
func (p *parser) cast(proto string) (node, error) {
	p.usual = nil
	switch proto + " " + p.word("broadcast", "multicast") {
	case "ether broadcast":
		return etherBroadcast(), nil
	case "ether multicast":
		return etherMulticast(), nil
	case "ip multicast":
		return ipv4Multicast(), nil
	case "ip6 multicast":
		return ipv6Multicast(), nil
	}
	return nil, p.wrong("%s has none that a filter can know", proto)
}

// values reads a value, or several in parentheses.
func (p *parser) values(q qualifiers) (node, error) {
	if p.sign("(") == "" {
		return p.value(q)
	}
	n, err := p.value(q)
	for err == nil && p.sign(")") == "" {
		isAnd, ok := p.joined()
		if !ok {
			return nil, p.wrong("want and, or, or )")
		}
		var next node
		if next, err = p.value(q); err != nil {
			break
		}
		if isAnd {
			n = both{n, next}
		} else {
			n = either{n, next}
		}
	}
	return n, err
}

// value reads one value with its qualifiers.
func (p *parser) value(q qualifiers) (node, error) {
	start, w := p.pos, p.peek()
	if w == "" {
		return nil, p.wrong("want a value for %s", q.kind)
	}
	p.pos += len(w)
	var n node
	var err error
	switch q.kind {
	case "host":
		n, err = hostOf(q, w)
	case "net":
		n, err = p.netOf(q, w)
	case "proto":
		n, err = protoOf(q, w)
	default:
		n, err = portsOf(q, w)
	}
	if err != nil {
		p.pos = start
		return nil, p.wrong("%v", err)
	}
	return n, nil
}

// hostOf tells frames of a host.
func hostOf(q qualifiers, text string) (node, error) {
	if q.proto == "ether" {
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 || len(text) != 17 || strings.Contains(text, "-") {
			return nil, fmt.Errorf("want an Ethernet address, as in 02:00:00:00:00:01")
		}
		return etherHost(mac, q.dir), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return nil, fmt.Errorf("want an IP address; names are not looked up")
	}
	return networkOf(q, netip.PrefixFrom(addr, addr.BitLen()))
}

// networkOf tells frames with an address in a network.
func networkOf(q qualifiers, network netip.Prefix) (node, error) {
	of := map[string][]ends{"": {ends4, endsARP, endsRARP}, "ip": {ends4}, "arp": {endsARP}, "rarp": {endsRARP}}
	if network.Addr().Is6() {
		of = map[string][]ends{"": {ends6}, "ip6": {ends6}}
	}
	var nodes []node
	for _, e := range of[q.proto] {
		nodes = append(nodes, e.within(network, q.dir))
	}
	if nodes == nil {
		return nil, fmt.Errorf("%s has no such address", q.proto)
	}
	return anyOf(nodes...), nil
}

// netOf tells frames of a network, whose mask may come as words of its own.
func (p *parser) netOf(q qualifiers, text string) (node, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		if network, err = p.masked(text); err != nil {
			return nil, err
		}
	}
	if network != network.Masked() {
		return nil, fmt.Errorf("%v is no network: bits behind its mask are set", network)
	}
	return networkOf(q, network)
}

// masked reads "mask MASK" behind an address of IPv4.
func (p *parser) masked(text string) (netip.Prefix, error) {
	want := fmt.Errorf("want a network, as in 192.0.2.0/24, or 192.0.2.0 mask 255.255.255.0")
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() || p.word("mask") == "" {
		return netip.Prefix{}, want
	}
	w := p.peek()
	mask, err := netip.ParseAddr(w)
	if err != nil || !mask.Is4() {
		return netip.Prefix{}, want
	}
	p.pos += len(w)
	four := mask.As4()
	bits, size := net.IPMask(four[:]).Size()
	if size == 0 {
		return netip.Prefix{}, fmt.Errorf("mask %v has holes", mask)
	}
	return netip.PrefixFrom(addr, bits), nil
}

// portsOf tells frames of a port, or of a range.
func portsOf(q qualifiers, text string) (node, error) {
	protocols := map[string][]uint32{
		"": {protoTCP, protoUDP, protoSCTP}, "tcp": {protoTCP}, "udp": {protoUDP}, "sctp": {protoSCTP},
	}[q.proto]
	if protocols == nil {
		return nil, fmt.Errorf("%s has no ports; want tcp, udp, sctp, or none of them", q.proto)
	}
	first, last, isRange := strings.Cut(text, "-")
	if isRange != (q.kind == "portrange") {
		return nil, fmt.Errorf("want port 80, or portrange 8000-8080")
	}
	if !isRange {
		last = first
	}
	from, err := portOf(first)
	if err != nil {
		return nil, err
	}
	to, err := portOf(last)
	if err == nil && to < from {
		err = fmt.Errorf("the range %s is empty", text)
	}
	return ports{from, to, protocols}.node(q.dir), err
}

func portOf(text string) (uint32, error) {
	n, err := parseNumber(text)
	if err != nil || n > 65535 {
		return 0, fmt.Errorf("want a port from 0 to 65535; names are not looked up")
	}
	return n, nil
}

// protoOf tells frames of a protocol by its number, or its name behind a backslash.
func protoOf(q qualifiers, text string) (node, error) {
	if q.hasDir {
		return nil, fmt.Errorf("a protocol has no direction")
	}
	names := map[string]uint32{`\tcp`: protoTCP, `\udp`: protoUDP, `\icmp`: protoICMP, `\sctp`: protoSCTP}
	if q.proto == "ether" {
		names = map[string]uint32{`\ip`: etherIPv4, `\ip6`: etherIPv6, `\arp`: etherARP, `\rarp`: etherRARP}
	}
	is, named := names[text]
	if !named {
		var err error
		if is, err = parseNumber(text); err != nil {
			return nil, err
		}
	}
	const shortestType = 0x600 // what is less is a length (IEEE 802.3)
	switch {
	case q.proto == "ether" && (is < shortestType || is > 0xffff):
		return nil, fmt.Errorf("want an Ethernet type from 0x600 to 0xffff")
	case q.proto == "ether":
		return etherType(is), nil
	case is > 255:
		return nil, fmt.Errorf("want a protocol from 0 to 255")
	case q.proto == "":
		return ipProto(is), nil
	case q.proto == "ip":
		return ipv4Proto(is), nil
	case q.proto == "ip6":
		return ipv6Proto(is), nil
	}
	return nil, fmt.Errorf("%s proto: want ether, ip or ip6 before it", q.proto)
}
