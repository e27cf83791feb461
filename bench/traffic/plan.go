package traffic

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Plan is what both ends must know of a run.
type Plan struct {
	Test   *Test
	Length time.Duration // how long the client sends, or asks
	Bytes  int64         // how much it sends instead, for a test with Volume
}

// Test is a kind of traffic.
type Test struct {
	Name   string // short, without white space
	Title  string
	Kind   Kind
	Size   int  // payload of each datagram
	Volume bool // ends after a number of bytes, not after a time
	Checks bool // is there to find faults; its figures say little

	ask   func(ctx context.Context, server *peer, p Plan) (Counts, time.Time, error)
	serve func(s *Server, control *socket, p Plan) (Counts, time.Time, error)
}

// Kind tells what a test counts.
type Kind string

// The kinds.
const (
	Bytes     Kind = "bytes"     // of a stream
	Exchanges Kind = "exchanges" // one at a time: a request and its answer
	Connects  Kind = "connects"  // one at a time: a connection with an exchange
	Datagrams Kind = "datagrams" // as many as the sender can send
)

// Tests returns all tests, the usual ones first.
func Tests() []*Test {
	return []*Test{
		{Name: "stream", Title: "TCP, one stream", Kind: Bytes, ask: sendZeros, serve: receiveAll},
		{Name: "rr", Title: "TCP, request and response of one byte", Kind: Exchanges, ask: askTCP, serve: answerTCP},
		{Name: "crr", Title: "TCP, connect, request, response, close", Kind: Connects, ask: connectAgain, serve: acceptAgain},
		{Name: "udp-rr", Title: "UDP, request and response", Kind: Exchanges, Size: 8, ask: askUDP, serve: answerUDP},
		{Name: "udp-64", Title: "UDP, datagrams of 64 bytes", Kind: Datagrams, Size: 64, ask: sendDatagrams, serve: countDatagrams},
		{Name: "udp-1472", Title: "UDP, datagrams of 1472 bytes", Kind: Datagrams, Size: 1472, ask: sendDatagrams, serve: countDatagrams},
		{Name: "count", Title: "TCP, both ways at once, every byte checked", Kind: Bytes, Checks: true, ask: countBothWays, serve: answerCount},
		{Name: "digest", Title: "TCP, one stream, SHA-256 of both ends equal", Kind: Bytes, Volume: true, Checks: true, ask: sendDigest, serve: receiveDigest},
	}
}

// Find returns the test with a name.
func Find(name string) (*Test, error) {
	var names []string
	for _, test := range Tests() {
		if test.Name == name {
			return test, nil
		}
		names = append(names, test.Name)
	}
	return nil, fmt.Errorf("no test %q; there are %s", name, strings.Join(names, ", "))
}

// Counts is what one end has counted.
type Counts struct {
	// Sent and Received are bytes of payload for streams, datagrams for Datagrams. For exchanges and connections, Sent counts
	// requests and Received answers, on the server the other way round.
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
	// Took is how long datagrams came, from the beginning of the run to the last one: longer than they were sent, if they
	// have waited somewhere. Only the server of Datagrams tells.
	Took time.Duration `json:"took_ns,omitempty"`
	// P50 and P99 are percentiles of the client's exchanges.
	P50 time.Duration `json:"p50_ns,omitempty"`
	P99 time.Duration `json:"p99_ns,omitempty"`
	// SHA256 is that of the stream, in hexadecimal.
	SHA256 string `json:"sha256,omitempty"`
}

// Meter measures from the first byte to the last. The end that does not measure uses NoMeter.
type Meter interface {
	Begin() error
	// End is called when the traffic is over, which it was at a moment that has passed since.
	End(at time.Time) error
}

// NoMeter measures nothing.
type NoMeter struct{}

// Begin implements Meter.
func (NoMeter) Begin() error { return nil }

// End implements Meter.
func (NoMeter) End(time.Time) error { return nil }

// Check compares what the two ends have counted. Only datagrams may be lost.
func (t *Test) Check(client, server Counts) error {
	if t.lossy() {
		if server.Received > client.Sent {
			return fmt.Errorf("the client has sent %d datagrams, and the server has received %d", client.Sent, server.Received)
		}
		return nil
	}
	if client.Sent != server.Received || client.Received != server.Sent {
		return fmt.Errorf("the client has sent %d and received %d, the server has received %d and sent %d",
			client.Sent, client.Received, server.Received, server.Sent)
	}
	if client.SHA256 != server.SHA256 {
		return fmt.Errorf("what has arrived is not what was sent: SHA-256 %s and %s", server.SHA256, client.SHA256)
	}
	return nil
}

func (t *Test) lossy() bool { return t.Size > 0 }
