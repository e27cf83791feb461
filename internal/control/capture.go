package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/netbackend/capture/filter"
)

// captureType is the Content-Type of a capture.
const captureType = "application/x-pcapng"

// maxDuration bounds how long a capture can be asked to take. Without a duration it takes as long as its client reads.
const maxDuration = 30 * 24 * time.Hour

// capture streams the frames of a guest.
func (s *Server) capture(r *http.Request, _ []byte) (any, error) {
	q, err := parseCaptureQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	guest := r.PathValue("name")
	c, err := s.Daemon.Capture(guest, q.options)
	switch {
	case errors.As(err, new(*daemon.NoGuestError)):
		return nil, failed(http.StatusNotFound, "%v", err)
	case errors.As(err, new(*daemon.TooManyCapturesError)):
		return nil, failed(http.StatusTooManyRequests, "%v", err)
	case err != nil:
		return nil, err
	}
	return &download{s, captureType, q.duration, func(ctx context.Context, write func([]byte) error) {
		s.Log.Info("capture begins", "guest", guest, "which", cut(r.URL.RawQuery))
		_ = c.Run(ctx, write) // fails if the client has hung up, as it may
		s.Log.Info("capture ends", "guest", guest, "packets", c.Packets(), "missed", c.Missed())
	}}, nil
}

// captureQuery says what is captured, and for how long.
type captureQuery struct {
	options  daemon.CaptureOptions
	duration time.Duration // 0 for no end
}

// Values of the parameter gso.
const (
	gsoWhole = "whole"
	gsoCut   = "cut"
)

// captureParameters read the parameters of a capture.
var captureParameters = []struct {
	name string
	read func(q *captureQuery, text string) error
}{
	{"filter", func(q *captureQuery, text string) error {
		program, err := filter.Parse(text)
		if err != nil {
			return err
		}
		q.options.Filter, q.options.FilterText = *program, text
		return nil
	}},
	{"snaplen", func(q *captureQuery, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < capture.MinSnapLen || n > capture.MaxSnapLen {
			return fmt.Errorf("want %d to %d bytes", capture.MinSnapLen, capture.MaxSnapLen)
		}
		q.options.SnapLen = n
		return nil
	}},
	{"gso", func(q *captureQuery, text string) error {
		if text != gsoWhole && text != gsoCut {
			return errors.New("want whole or cut")
		}
		q.options.Cut = text == gsoCut
		return nil
	}},
	{"count", func(q *captureQuery, text string) error {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil || n == 0 {
			return errors.New("want a number of packets from 1 on")
		}
		q.options.Packets = n
		return nil
	}},
	{"duration", func(q *captureQuery, text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 || d > maxDuration {
			return fmt.Errorf("want a time above 0 and up to %v, as in 30s", maxDuration)
		}
		q.duration = d
		return nil
	}},
}

// parseCaptureQuery reads what is captured. The error is a failure.
func parseCaptureQuery(raw string) (*captureQuery, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, failed(http.StatusBadRequest, "%q: %v", cut(raw), err)
	}
	q := &captureQuery{options: daemon.CaptureOptions{SnapLen: capture.MaxSnapLen}}
	var names []string
	for _, p := range captureParameters {
		names = append(names, p.name)
	}
	for name, all := range values {
		i := slices.Index(names, name)
		switch {
		case i < 0:
			return nil, failed(http.StatusBadRequest, "there is no %q; there are %q", cut(name), names)
		case len(all) > 1:
			return nil, failed(http.StatusBadRequest, "%s is there %d times; write it once", name, len(all))
		}
		if err := captureParameters[i].read(q, all[0]); err != nil {
			return nil, failed(http.StatusBadRequest, "%s %q: %v", name, cut(all[0]), err)
		}
	}
	return q, nil
}
