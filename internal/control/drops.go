package control

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/metrics"
	"github.com/vringnet/vring/netbackend/drops"
)

func (s *Server) drops(r *http.Request, _ []byte) (any, error) {
	reason, err := reasonOf(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	kept, err := s.Daemon.Drops(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	all := []api.Drop{}
	for i := range kept {
		if reason == "" || kept[i].Reason == reason {
			all = append(all, dropOf(&kept[i]))
		}
	}
	return all, nil
}

// reasonOf reads which drops are meant, "" for all. The error is a failure.
func reasonOf(raw string) (string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return "", failed(http.StatusBadRequest, "%q: %v", cut(raw), err)
	}
	for name, all := range values {
		switch {
		case name != "reason":
			return "", failed(http.StatusBadRequest, "there is no %q; there is reason", cut(name))
		case len(all) > 1:
			return "", failed(http.StatusBadRequest, "reason is there %d times; write it once", len(all))
		case metrics.Meaning(all[0]) == "":
			return "", failed(http.StatusBadRequest, "there is no reason %q; reasons are names of counters, as in denied", cut(all[0]))
		}
	}
	return values.Get("reason"), nil
}

func dropOf(d *daemon.Drop) api.Drop {
	return api.Drop{
		Time: d.At.Format(eventTime), Pair: d.Pair, Reason: d.Reason, Meaning: metrics.Meaning(d.Reason), Detail: d.Detail, ToGuest: d.ToGuest,
		Proto: protocolOf(&d.Frame), Src: endOf(d.Frame.Src), Dst: endOf(d.Frame.Dst), Length: d.Frame.Length, LeftOut: d.Left,
	}
}

// endOf returns an address with its port, if it has one, "" for none.
func endOf(a netip.AddrPort) string {
	if a.Port() == 0 && a.Addr().IsValid() {
		return a.Addr().String()
	}
	return nameOfEnd(a)
}

// protocolOf names the protocol of a frame, "" if it is not known.
func protocolOf(f *drops.Frame) string {
	const arp, ipv4, ipv6 = 0x0806, 0x0800, 0x86dd
	switch {
	case f.EtherType == 0:
		return ""
	case f.EtherType == arp:
		return "arp"
	case f.EtherType != ipv4 && f.EtherType != ipv6:
		return fmt.Sprintf("ethertype 0x%04x", f.EtherType)
	case f.Proto == unix.IPPROTO_TCP:
		return "tcp"
	case f.Proto == unix.IPPROTO_UDP:
		return "udp"
	case f.Proto == unix.IPPROTO_ICMP || f.Proto == unix.IPPROTO_ICMPV6:
		return "icmp"
	}
	return fmt.Sprintf("ip %d", f.Proto)
}
