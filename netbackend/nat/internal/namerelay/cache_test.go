package namerelay_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// address is an answer with an address that lives for a minute.
func address(query []byte) []byte {
	b := answer(query, 0)
	binary.BigEndian.PutUint16(b[6:], 1)
	return append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
}

func TestAnAnswerThatIsKeptNeedsNoResolver(t *testing.T) {
	r := newRig(t, 1)
	r.guest.UseCache()
	require.Equal(t, namerelay.Passed, r.ask(question(1)))
	r.reply(r.sockets[0], address(question(1)))
	require.Equal(t, namerelay.Cached, r.ask(question(2)))
	require.Len(t, r.answers, 2)
	require.Equal(t, address(question(2)), r.answers[1])
	require.Len(t, r.sockets, 1)
	held, _ := r.guest.Queries()
	require.Zero(t, held)

	r.noRoom = true
	require.Equal(t, namerelay.Passed, r.ask(question(3)), "the guest has no room now: it gets the answer later")
	r.reply(r.sockets[1], address(question(3)))
	r.noRoom = false
	require.False(t, r.after(second))
	require.Equal(t, address(question(3)), r.answers[2])

	r.now += 60 * second
	require.Equal(t, namerelay.Passed, r.ask(question(4)), "it is over")
	r.reply(r.sockets[2], answer(question(4), 2))
	require.Equal(t, stale(question(4)), r.answers[3], "a resolver that has failed knows nothing better")
	require.Equal(t, namerelay.Cached, r.ask(question(5)), "nor half a minute later")
	require.Equal(t, stale(question(5)), r.answers[4])
	r.now += 30 * second
	require.Equal(t, namerelay.Passed, r.ask(question(6)))
	r.reply(r.sockets[3], address(question(6)))
	require.Equal(t, address(question(6)), r.answers[5])
	require.Len(t, r.sockets, 4)
	require.Equal(t, 1, r.stale, "which was told of a query")
}

func TestWhatWasAnsweredIsForgotten(t *testing.T) {
	for name, forget := range map[string]func(r *rig, resolvers *dns.Relay){
		"with the guest":               func(r *rig, _ *dns.Relay) { r.relay.Forget() },
		"when the host was suspended":  func(r *rig, _ *dns.Relay) { r.relay.Forgive() },
		"when others are to be asked":  func(_ *rig, d *dns.Relay) { d.Use(dns.Plain(resolver(2)), "") },
		"when nobody is":               func(_ *rig, d *dns.Relay) { d.Use(nil, "") },
		"unless nothing has happened:": nil,
	} {
		t.Run(name, func(t *testing.T) {
			resolvers := dns.New(dns.Config{Servers: dns.Plain(resolver(1))})
			r := newRigOf(t, resolvers)
			r.guest.UseCache()
			r.ask(question(1))
			r.reply(r.sockets[0], address(question(1)))
			want := namerelay.Cached
			if forget != nil {
				forget(r, resolvers)
				want = namerelay.Passed
			}
			require.Equal(t, want, r.ask(question(2)))
		})
	}
}

// A guest without a cache asks each time.
func TestNothingIsKeptUnlessItIsWanted(t *testing.T) {
	r := newRig(t, 1)
	for i := range uint16(3) {
		require.Equal(t, namerelay.Passed, r.ask(question(i)))
		r.reply(r.sockets[i], address(question(i)))
	}
}

// stale is what stands in for an answer with an address.
func stale(query []byte) []byte {
	b := address(query)
	binary.BigEndian.PutUint32(b[len(b)-10:], 30)
	return b
}

// A guest does not wait for resolvers that are silent, and their answer is kept when it comes.
func TestAnAnswerThatIsOverStandsInForResolversThatAreSilent(t *testing.T) {
	r := newRig(t, 2)
	r.guest.UseCache()
	r.ask(question(1))
	r.reply(r.sockets[0], address(question(1)))
	r.now += 61 * second
	require.Equal(t, namerelay.Passed, r.ask(question(2)))
	r.after(1600e6)
	require.Len(t, r.sockets, 3, "the second resolver is asked")
	require.Len(t, r.answers, 1)
	r.after(200e6)
	require.Equal(t, stale(question(2)), r.answers[1])
	require.Equal(t, namerelay.Cached, r.ask(question(3)), "which does not wait")
	r.reply(r.sockets[2], address(question(2)))
	require.Len(t, r.answers, 3, "the guest has its answer")
	require.Equal(t, namerelay.Cached, r.ask(question(4)))
	require.Equal(t, address(question(4)), r.answers[3], "that of the resolver")
}

func TestAnAnswerThatIsOverStandsInForResolversThatCannotBeReached(t *testing.T) {
	r := newRig(t, 1)
	r.guest.UseCache()
	r.ask(question(1))
	r.reply(r.sockets[0], address(question(1)))
	r.now += 61 * second
	r.openErr = namerelay.ErrNoRoom
	require.Equal(t, namerelay.Passed, r.ask(question(2)))
	require.Equal(t, stale(question(2)), r.answers[1])
}
