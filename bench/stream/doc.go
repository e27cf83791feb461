// Package stream is the traffic of a throughput benchmark: zeros over one TCP connection, for a time. Both ends, the host
// and the guest, use it.
//
//	receiver  -- one byte, "go" -->  sender
//	sender    -- zeros, end of stream -->  receiver
//	receiver  -- end of stream -->  sender
//
// So either end knows when the first byte leaves and when the last one has arrived, and one clock is enough. Whether the
// bytes are the right ones is the business of the tests in package integration.
package stream
