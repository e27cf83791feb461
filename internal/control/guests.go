package control

import (
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
)

// addGuest adds the guest that a request describes as a configuration file does.
func (s *Server) addGuest(_ *http.Request, body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, unread("it is no text in UTF-8")
	}
	if err := checkNames(body); err != nil {
		return nil, err
	}
	g, err := configfile.ParseGuest("the guest", body)
	if err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	return s.change(func(c *daemon.Config) error {
		c.Guests = append(c.Guests, g)
		return nil
	})
}

// removeGuest removes a guest that has a network of its own.
func (s *Server) removeGuest(r *http.Request, body []byte) (any, error) {
	if len(body) > 0 {
		return nil, unread("it must be empty: the path says who is removed")
	}
	name := r.PathValue("name")
	if err := s.checkGuest(name); err != nil {
		return nil, err
	}
	networks := s.Daemon.Networks()
	i := slices.IndexFunc(networks, func(n daemon.Network) bool { return n.Guest == name })
	if i < 0 {
		return nil, failed(http.StatusNotFound, "guest %q was removed meanwhile", cut(name))
	}
	own := networks[i].Own
	if own == "" {
		return nil, failed(http.StatusUnprocessableEntity, "guest %s shares its network, so it stays as long as vring runs; one that has a network of its own can be removed", name)
	}
	return s.change(func(c *daemon.Config) error {
		before := len(c.Guests)
		c.Guests = slices.DeleteFunc(c.Guests, func(g daemon.Guest) bool { return g.SocketPath == own })
		if len(c.Guests) == before {
			return failed(http.StatusNotFound, "guest %q was removed meanwhile", cut(name))
		}
		return nil
	})
}
