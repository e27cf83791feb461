package review

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// reviewed is a guest whose flows are judged again.
type reviewed struct {
	Reviewer
	*shardtest.Shard
	t *testing.T
}

func newReviewed(t *testing.T) *reviewed {
	socket, err := routesocket.Open(false)
	require.NoError(t, err)
	r, routes := &reviewed{Shard: shardtest.New(t, 0), t: t}, new(route.Table)
	routes.Open(socket)
	t.Cleanup(routes.Close)
	rules := policy.New(policy.Compile(&policy.Config{}, r.Nets), r.Nets, routes)
	r.Reviewer.SetUp(Uses{
		Shard: &r.Turn.Shard, Policy: &rules, Routes: routes, News: new(route.News), TCP: new(tcp.Engine), UDP: new(udp.Engine), Repoliced: new(atomic.Int64),
	}, false)
	return r
}

// flow makes a flow of UDP to an address.
func (r *reviewed) flow(remote string, port uint16, bits shard.Bits) *shard.Flow {
	r.t.Helper()
	key := flowtable.Key{Guest: shardtest.Addr("10.0.2.15"), GuestPort: port, Remote: shardtest.Addr(remote), RemotePort: 9, Proto: netpkt.UDP}
	f, _ := r.Create(&key, -1, shard.StateActive, bits, shard.ClassAssociations)
	require.NotNil(r.t, f)
	return f
}

// denying are rules that close a network.
func (r *reviewed) denying(network string) *policy.Rules {
	r.t.Helper()
	rule, err := spec.ParseRule(network, false)
	require.NoError(r.t, err)
	return policy.Compile(&policy.Config{Rules: []spec.Rule{rule}}, r.Nets)
}

const closed, open = "203.0.113.9", "198.51.100.9"

func TestFlowsThatANewPolicyClosesEnd(t *testing.T) {
	for name, c := range map[string]struct {
		remote string
		bits   shard.Bits
		keeps  bool
		ends   bool
	}{
		"a closed destination":            {closed, 0, false, true},
		"an open one":                     {open, 0, false, false},
		"if they are to go on":            {closed, 0, true, false},
		"one of a forward":                {closed, shard.Inbound, false, false},
		"one that has no socket":          {closed, shard.NoSocket, false, false},
		"the host, which is closed as is": {"10.0.2.2", 0, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReviewed(t)
			f := r.flow(c.remote, 1, c.bits)
			if c.bits&shard.Inbound != 0 {
				f.Key.Proto = netpkt.TCP // a connection was made with its peer
			}
			r.Adopt(r.denying("203.0.113.0/24"), c.keeps)
			r.JudgeSome(r.Turn)
			require.Equal(t, c.ends, r.Flows.Live() == 0)
			require.Equal(t, c.ends, r.Counters.Withdrawn == 1)
			require.False(t, r.Again)
		})
	}
}

// Turns follow each other until all are judged, and none of them takes long.
func TestManyFlowsAreJudgedInSlices(t *testing.T) {
	r := newReviewed(t)
	for port := range uint16(30) {
		r.flow(closed, port+1, 0)
	}
	r.Adopt(r.denying("203.0.113.0/24"), false)
	const aTurn = 9 // so many of (judgeCost+ruleCost+endCost) fill a slice
	require.EqualValues(t, aTurn, 1+(slice-1)/(judgeCost+ruleCost+endCost))
	for left := 30; left > 0; {
		r.Again = false
		r.JudgeSome(r.Turn)
		left = max(left-aTurn, 0)
		require.Equal(t, left, r.Flows.Live())
		require.Equal(t, left > 0, r.Again)
	}
	r.JudgeSome(r.Turn)
	require.EqualValues(t, 30, r.Counters.Withdrawn)
}

// It may have been judged by neither of the two queue pairs.
func TestAFlowThatMovesInIsJudgedIfOthersJustWere(t *testing.T) {
	for name, c := range map[string]struct {
		after int64 // nanoseconds
		keeps bool
		goes  bool
	}{
		"just now":             {1e9 - 1, false, false},
		"long ago":             {1e9, false, true},
		"if they are to go on": {1, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReviewed(t)
			r.Adopt(r.denying("203.0.113.0/24"), false)
			r.JudgeSome(r.Turn)
			r.Reviewer.keeps = c.keeps
			r.At(r.Now + c.after)
			require.Equal(t, c.goes, r.JudgeMovedIn(r.flow(closed, 1, 0)))
		})
	}
}

// What the host's addresses cannot have changed is no reason to end a flow: it may be older than the policy.
func TestOnlyWhatIsTheHostsOwnEndsByItsAddresses(t *testing.T) {
	r := newReviewed(t)
	r.policy.Replace(r.denying("203.0.113.0/24"))
	require.True(t, r.JudgeAgain(r.flow(closed, 1, 0), stats.EndTakenOver))
	require.False(t, r.JudgeAgain(r.flow("127.0.0.1", 2, 0), stats.EndTakenOver))
	require.False(t, r.JudgeAgain(r.flow(closed, 3, 0), stats.EndDenied))
}

func TestNothingIsDueWithoutNews(t *testing.T) {
	r := newReviewed(t)
	r.flow(closed, 1, 0)
	r.Review(r.Turn)
	require.Zero(t, r.Due())
	require.Equal(t, 1, int(r.Flows.Live()))
}
