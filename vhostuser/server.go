package vhostuser

import (
	"context"
	"errors"
)

// Server serves front ends, one after the other.
type Server struct {
	cfg Config
}

// NewServer binds the socket, so that its errors come at once. Serve must be called to release it.
func NewServer(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg}, nil
}

// Serve serves front ends until ctx ends, and then removes the socket file.
func (s *Server) Serve(ctx context.Context) error {
	return errors.New("not yet")
}
