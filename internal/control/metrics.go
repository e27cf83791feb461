package control

import (
	"net/http"

	"github.com/vringnet/vring/internal/metrics"
)

// metrics is the page that Prometheus reads.
func (s *Server) metrics(*http.Request, []byte) (any, error) {
	text, err := s.page.Text()
	return &raw{metrics.ContentType, text}, err
}
