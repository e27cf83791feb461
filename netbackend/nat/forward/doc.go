// Package forward opens what forwards listen on: ports and unix sockets of the host. It says who has a port that cannot be had.
//
// It knows neither guests nor their traffic: what comes in by a socket is the engine's.
package forward
