// Package adbd is the device's end of adb, as much of it as `adb forward` needs: the wire protocol, and a daemon whose only
// service is tcp:PORT on the device's own loopback. It is what the guest of bench/adb runs.
//
// It speaks version 0x01000001 (no checksums) with payloads of up to 1 MiB, the most that Debian's adb 29 offers; that one
// does not offer delayed acknowledgements. So a stream has one payload under way in each direction:
//
//	host                                   device
//	  CONNECT version, 1 MiB, banner  ----->
//	  <-----  CONNECT version, 1 MiB, banner
//	  OPEN id "tcp:PORT"  ----------------->        dials
//	  <---------------------------  OKAY id         or CLOSE, if the port refuses: the protocol has no reason
//	  WRITE payload  ---------------------->        the next one may come only after its OKAY
//	  <--------------------------------  OKAY
//	  <-------------------------------  CLOSE       end of stream and reset alike, in both directions
//
// A host that breaks these rules loses its connection. There is no authentication: this is for measurements on a machine's
// own loopback and nothing else.
//
// Serve may be called once for a listener; each host is served by goroutines of its own: one reads, and each stream has one
// for each direction.
package adbd
