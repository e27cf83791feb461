package stream_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/stream"
)

// pair returns the two ends of a connection over the loopback.
func pair(t *testing.T) (a, b *net.TCPConn) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	dialed, err := net.Dial("tcp4", listener.Addr().String())
	require.NoError(t, err)
	accepted, err := listener.Accept()
	require.NoError(t, err)
	for _, c := range []net.Conn{dialed, accepted} {
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		t.Cleanup(func() { c.Close() })
	}
	return dialed.(*net.TCPConn), accepted.(*net.TCPConn)
}

func TestTheReceiverCountsWhatTheSenderHasSent(t *testing.T) {
	sender, receiver := pair(t)
	received := make(chan int64, 1)
	go func() {
		n, _ := stream.Receive(receiver)
		received <- n
		receiver.Close()
	}()
	require.NoError(t, stream.SayGo(receiver))
	require.NoError(t, stream.AwaitGo(sender))
	sent, err := stream.Send(sender, 20*time.Millisecond)
	require.NoError(t, err)
	require.Positive(t, sent)
	require.Equal(t, sent, <-received)
}

func TestSendIsNotDoneBeforeTheReceiver(t *testing.T) {
	sender, receiver := pair(t)
	done := make(chan error, 1)
	go func() {
		_, err := stream.Send(sender, time.Nanosecond)
		done <- err
	}()
	_, err := stream.Receive(receiver)
	require.NoError(t, err)
	select {
	case err := <-done:
		require.Fail(t, "Send has returned", "%v", err)
	default:
	}
	require.NoError(t, receiver.Close())
	require.NoError(t, <-done)
}

func TestSendRefusesAReceiverThatTalks(t *testing.T) {
	sender, receiver := pair(t)
	go func() {
		_, _ = stream.Receive(receiver)
		_, _ = receiver.Write([]byte("hello"))
	}()
	_, err := stream.Send(sender, time.Nanosecond)
	require.EqualError(t, err, "the receiver has sent 1 bytes")
}

func TestAwaitGoTellsThatThereIsNoReceiver(t *testing.T) {
	sender, receiver := pair(t)
	require.NoError(t, receiver.Close())
	require.Error(t, stream.AwaitGo(sender))
}
