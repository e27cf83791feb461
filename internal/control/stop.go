package control

import (
	"bytes"
	"net/http"

	"github.com/vringnet/vring/internal/control/api"
)

// lastAnswer is an answer after which something is done that may end the connection.
type lastAnswer struct {
	answer any
	then   func()
}

func (s *Server) stop(_ *http.Request, body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) > 0 {
		return nil, unread("it must be empty")
	}
	s.Log.Info("asked to end at the control socket")
	return &lastAnswer{&api.Stopping{Stopping: true}, s.Stop}, nil
}
