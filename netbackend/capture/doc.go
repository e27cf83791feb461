// Package capture copies frames out of the data path for whoever wants to look at them, without holding it up.
//
// A [Tap] is the hand-off for one capture of one queue pair: a ring of bounded memory, written by the pair's thread alone and
// read by one goroutine alone. The thread copies at most SnapLen bytes of a frame that the filter selects. If there is no
// room, the frame is missed and counted, and traffic goes on. Nobody is woken: the reader looks again and again.
//
// A [Hook] is all taps of a queue pair. The worker has one or nil, for nobody captures. It shows the hook the frames that the
// guest has sent, before the Port gets them, and those that are given to the guest, as they are committed. So a capture is the same
// whatever the Port is.
//
// What is captured is the frame as guest and device hand it over, with its virtio-net header: checksums may be
// missing, and a frame of 64 KiB may stand for many packets. A reader turns it into what a wire would carry by
// [Frame.Complete] and [Cutter].
//
// What does not belong here: formats of files (package pcapng), who may capture how much (package daemon).
package capture
