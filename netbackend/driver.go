package netbackend

// Driver is the driver side of a queue pair's rings, for a guest whose rings this process has: its frames come and go by a socket, and not by
// memory that a front end shares. It runs on the thread of the pair, which watches the socket.
//
// All methods but Counters are called on that thread, from worker.Device.SetDriver on until it is given another one.
type Driver interface {
	// FD is the socket, non-blocking. It stays open until SetDriver has taken the Driver away.
	FD() int
	// Fill makes frames that have come available in the transmit ring, and buffers in the receive ring. It is called before each turn
	// of the Port. events is the readiness of the socket since the last call, edge-triggered, as in epoll_ctl(2). It reports whether frames
	// were made available.
	Fill(events uint32) (filled bool)
	// Drain passes on what is used in the receive ring, after each turn of the Port. More asks for another turn at once.
	Drain() (more bool)
	// Full reports whether the socket takes no more at present: only then is it watched for room. It is asked after Fill and Drain.
	Full() bool
	// Counters tells what was counted.
	Counters() FrontEndCounters
}

// FrontEndCounters counts what passes between a Driver and the socket of its guest's front end.
type FrontEndCounters struct {
	FrontEndShort   uint64 `counter:"front_end_short_frames" kind:"drop" help:"Frames from the front end's socket that were shorter than an Ethernet header."`
	FrontEndLong    uint64 `counter:"front_end_long_frames" kind:"drop" help:"Frames from the front end's socket that were longer than a frame can be."`
	FrontEndRefused uint64 `counter:"front_end_refused_frames" kind:"drop" help:"Frames for the guest that the front end's socket cannot take."`
}
