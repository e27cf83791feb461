package errand

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// start runs a service on this machine.
func start(t *testing.T) Client {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		require.NoError(t, <-ended)
	})
	return Client{Address: l.Addr().String(), Limit: 2 * time.Minute}
}

func TestBytesGoBothWays(t *testing.T) {
	c := start(t)
	for _, n := range []int64{1, chunk - 1, 3*chunk + 1} {
		_, err := c.Upload(n)
		require.NoError(t, err)
		_, err = c.Download(n)
		require.NoError(t, err)
	}
}

func TestQuestionsAreAnswered(t *testing.T) {
	c := start(t)
	times, err := c.Ask(20 * time.Millisecond)
	require.NoError(t, err)
	require.NotEmpty(t, times)
	require.IsNonDecreasing(t, times)
	rate, err := c.Connects(20 * time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, rate)
}

func TestTheKernelTellsEveryEndApart(t *testing.T) {
	c := start(t)
	for order, what := range map[Order]string{
		Last:  `"farewell", end of stream`,
		Reset: "reset",
		'?':   "end of stream",
	} {
		learned, err := c.Provoke(order)
		require.NoError(t, err)
		require.Equal(t, what, learned.What)
		require.Positive(t, learned.Took)
	}
}

func TestARefusedPortAndSilence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := Client{Address: l.Addr().String(), Limit: 50 * time.Millisecond}
	require.Equal(t, Nothing, c.Try().What, "nobody accepts")
	require.NoError(t, l.Close())
	c.Limit = 2 * time.Minute
	require.Equal(t, "refused", c.Try().What)
}

func TestASessionThatLivesIsAskedOnceMore(t *testing.T) {
	s, err := start(t).Stay()
	require.NoError(t, err)
	defer s.Close()
	for limit := 20 * time.Millisecond; s.Watch(time.Now(), limit).What != Lives; limit *= 2 { // it also bounds how long the answer may take
		require.Less(t, limit, time.Minute)
	}
}
