// Package traffic is what a benchmark sends: both ends of each kind of traffic, for the host and for the guest.
//
// A Test has a client and a server. The client dials, and it is the client that sends, or asks. Both ends first have a TCP
// connection, the control connection; it carries the streams and the TCP requests too:
//
//	client                                          server
//	  dial  ------------------------------------->  accept
//	        ----  one byte, "ready"  ------------>
//	        <---------------  one byte, "go"  ----
//	  the test's traffic  <---------------------->  (on this connection, on others to the same port, or by UDP)
//	  end of stream  ---------------------------->
//	        <-----------------  end of stream  ---
//
// The client speaks first because of passt of 2023, which lets a guest's server wait for the end of the handshake until the
// client has sent something. Either end knows when the first byte leaves and when the last one has arrived: one end measures (Meter), and one clock
// is enough. What the ends have counted is compared by Check.
//
// Sockets are used through blocking system calls, without the runtime's poller: it would add system calls of its own, and
// each is dear in User-mode Linux. One end of one test at a time is used by one goroutine.
package traffic
