package namerelay_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Whatever becomes of the resolvers of a domain, the usual ones are not asked for its names, nor they for others.
func TestADomainHasItsOwnResolversOnly(t *testing.T) {
	rest := dns.New(dns.Config{Servers: dns.Plain(resolver(1), resolver(2))})
	r := newRigOfSplit(t, dns.NewSplit(rest, []dns.Route{{Domain: "a", Servers: dns.Plain(resolver(8), resolver(9))}}))
	require.Equal(t, namerelay.Passed, r.ask(question(1)))
	r.reply(r.sockets[0], answer(question(1), 2))
	require.Len(t, r.sockets, 2)
	require.Equal(t, resolver(8), r.sockets[0].to)
	require.Equal(t, resolver(9), r.sockets[1].to)
	r.after(2 * second)
	require.Len(t, r.answers, 1, "nobody else is asked")
	require.EqualValues(t, 2, codeOf(r.answers[0]))
	require.Len(t, r.sockets, 2)

	other := question(2)
	other[13] = 'b'
	require.Equal(t, namerelay.Passed, r.ask(other))
	r.after(2 * second)
	r.after(2 * second)
	var asked []netip.AddrPort
	for _, s := range r.sockets[2:] {
		asked = append(asked, s.to)
	}
	require.Equal(t, []netip.AddrPort{resolver(1), resolver(2)}, asked)
}

func TestADomainWithoutAResolverThatCanBeReachedIsAnsweredByAnError(t *testing.T) {
	rest := dns.New(dns.Config{Servers: dns.Plain(resolver(1))})
	r := newRigOfSplit(t, dns.NewSplit(rest, []dns.Route{{Domain: "a", Servers: dns.Plain(resolver(8))}}))
	r.openErr = errors.New("unreachable")
	r.ask(question(1))
	require.Len(t, r.answers, 1)
	require.EqualValues(t, 2, codeOf(r.answers[0]))
	require.Equal(t, []netip.AddrPort{resolver(8)}, r.left)
}
