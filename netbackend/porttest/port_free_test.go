package porttest

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// The kernel keeps a connection for a minute at the end that has closed first. Its port cannot be bound meanwhile by who does
// not set SO_REUSEADDR.
func TestAPortWithAConnectionInTimeWaitIsNotFree(t *testing.T) {
	at := FreePort(t)
	l, err := net.Listen("tcp4", at.String())
	require.NoError(t, err)
	client, err := net.Dial("tcp4", at.String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, server.Close())
	_, err = client.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, client.Close())
	require.NoError(t, l.Close())
	require.False(t, isFree(at))
}
