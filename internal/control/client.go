package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/vringnet/vring/internal/control/api"
)

// Client asks the server of a control socket. Any goroutine may use it.
type Client struct {
	path string
	http http.Client
}

// maxAnswer bounds what a client reads of an answer, in bytes.
const maxAnswer = 64 << 20

// NewClient returns a client for the control socket at path. It connects when something is asked.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 1}}}
}

// Close closes the connections that wait for another request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// RefusedError is that a request was not carried out, with the server's reason.
type RefusedError struct {
	Status int // of HTTP
	Reason api.Error
}

func (e *RefusedError) Error() string { return e.Reason.Text }

// Text is an answer that is no JSON.
type Text []byte

// Do makes a request with question as its body, nil for none, and reads the answer into answer: a *Text, what its JSON is, or nil for none. The error is a
// RefusedError if the server has told why it does not do that.
func (c *Client) Do(ctx context.Context, method, path string, question, answer any) error {
	response, err := c.send(ctx, method, path, question)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return refusedError(response, text)
	}
	switch answer := answer.(type) {
	case nil:
		return nil
	case *Text:
		*answer = text
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s: what it answers is not understood: %w; is it the control socket of a vring?", c.path, err)
	}
	return nil
}

// maxEventLine bounds a line of events, in bytes.
const maxEventLine = 1 << 20

// Follow calls each with events that the answer at path tells, which are server-sent events with JSON as their data, until each returns an error,
// which Follow returns, or ctx ends. The error is io.EOF when the server has nothing more to tell, and a RefusedError if it tells nothing.
func (c *Client) Follow(ctx context.Context, path string, each func(*api.Event) error) error {
	response, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("%s: %w", c.path, err)
		}
		return refusedError(response, text)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxEventLine)
	for lines.Scan() {
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !found {
			continue // its ID and kind are in the data, too
		}
		event := new(api.Event)
		if err := json.Unmarshal(data, event); err != nil {
			return fmt.Errorf("%s: an event is not understood: %w", c.path, err)
		}
		if err := each(event); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return io.EOF // be it in the middle of what could not be sent any more
}

// send sends a request.
func (c *Client) send(ctx context.Context, method, path string, question any) (*http.Response, error) {
	var body io.Reader
	if question != nil {
		text, err := json.Marshal(question)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://vring"+path, body)
	if err != nil {
		return nil, err
	}
	if question != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(r)
	if failed := new(url.Error); errors.As(err, &failed) {
		err = fmt.Errorf("%s: %w", c.path, failed.Err) // without a method and a URL that nobody has written
	}
	return response, err
}

// GuestPath is the path at which something of a guest is asked for, such as flows. q chooses of it; nil for all.
func GuestPath(guest, what string, q url.Values) string {
	path := "/v1/guests/" + url.PathEscape(guest)
	if what != "" {
		path += "/" + what
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

// Connection is one to a guest. One goroutine may read it, and another one write it.
type Connection struct {
	*net.UnixConn
	reader *bufio.Reader
}

// Read implements io.Reader.
func (c *Connection) Read(p []byte) (int, error) { return c.reader.Read(p) }

// WriteTo implements io.WriterTo: what came with the answer is first.
func (c *Connection) WriteTo(w io.Writer) (int64, error) { return c.reader.WriteTo(w) }

// Connect connects to a port of a guest, or of a host behind its card, as ParseGuestPort reads it. The caller closes the connection. The error is
// a RefusedError if the server has told why there is none.
func (c *Client) Connect(ctx context.Context, guest, to string) (*Connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	connected, err := upgrade(ctx, conn.(*net.UnixConn), GuestPath(guest, "connect", url.Values{"to": {to}}))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return connected, nil
}

// upgrade asks for the upgrade of a connection.
func upgrade(ctx context.Context, conn *net.UnixConn, path string) (*Connection, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://vring"+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", upgradeProtocol)
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, r)
	if err != nil {
		return nil, fmt.Errorf("the control socket does not answer: %w", err)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return &Connection{conn, reader}, nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	return nil, refusedError(response, text)
}

// refusedError is the error that an answer tells.
func refusedError(response *http.Response, text []byte) error {
	refused := &RefusedError{Status: response.StatusCode}
	if json.Unmarshal(text, &refused.Reason) != nil || refused.Reason.Text == "" {
		refused.Reason.Text = fmt.Sprintf("%s: %.200s", response.Status, text)
	}
	return refused
}

// Stream is an answer that goes on. One goroutine may read it while another one stops it.
type Stream struct {
	io.ReadCloser
	conn *net.UnixConn
}

// Stop tells the server to end the stream. What is still told can be read.
func (s *Stream) Stop() error { return s.conn.CloseWrite() }

// Stream asks for an answer that goes on, by a connection of its own. The caller closes it. The error is a RefusedError if the server has told why
// there is none.
func (c *Client) Stream(ctx context.Context, path string) (*Stream, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, err
	}
	one := Client{path: c.path, http: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
	}}}
	response, err := one.send(context.WithoutCancel(ctx), http.MethodGet, path, nil) // else its end would close the connection before what is still told
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if response.StatusCode >= http.StatusBadRequest {
		defer response.Body.Close()
		text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.path, err)
		}
		return nil, refusedError(response, text)
	}
	return &Stream{response.Body, conn.(*net.UnixConn)}, nil
}
