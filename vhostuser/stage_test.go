package vhostuser

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/vhostuser/frontend"
)

func TestTheStageFollowsAFrontEndAndItsGuest(t *testing.T) {
	var server *Server
	told := make(chan Stage, 10)
	s := serveEdited(t, Config{Staged: func(now Stage) { told <- now }}, func(edited *Server) { server = edited })
	at := func(want Stage) {
		t.Helper()
		require.Eventually(t, func() bool { return server.Stage() == want }, time.Minute, time.Millisecond, want)
	}
	require.Equal(t, NoFrontEnd, server.Stage())
	fe, err := frontend.Dial(s.path)
	require.NoError(t, err)
	at(Connected)
	s.bringUp(fe)
	at(DriverUp)
	require.NoError(t, fe.Close())
	at(NoFrontEnd)
	for _, want := range []Stage{Connected, DriverUp, NoFrontEnd} {
		select {
		case now := <-told:
			require.Equal(t, want, now)
		case <-time.After(time.Minute):
			require.Fail(t, "the stage is not told", want)
		}
	}
	require.Equal(t, []string{"waiting", "connected", "up"}, []string{NoFrontEnd.String(), Connected.String(), DriverUp.String()})
}
