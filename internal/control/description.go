package control

import (
	_ "embed"
	"net/http"
)

// description is what the server offers, in OpenAPI's form. A test compares it with routes and with the types of package api.
//
//go:embed openapi.yaml
var description []byte

// raw is an answer that is no JSON.
type raw struct {
	kind string // Content-Type
	text []byte
}

func (s *Server) describe(*http.Request, []byte) (any, error) {
	return &raw{"application/yaml", description}, nil
}
