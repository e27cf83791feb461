// Package stub has Ports that lead nowhere: [Null] swallows what the guest sends, [Echo] sends it back, [Source] sends
// frames of its own, and [Sink] finds out what has become of those that come to it, as a Source does of those that come back.
//
// They serve to measure what rings and worker cost by themselves, and to try a front end or a driver without a network.
// All do honest work: they look at every chain and check every virtio-net header (virtio 1.2 section 5.1.6.2) as any Port
// must, and write every byte of what they send.
//
// Concurrency: a Port belongs to its worker's thread, counters included. There is no socket, no allocation in a turn, and
// no timer but that of a Source with a rate. What frames mean does not belong here, but for those of package
// testframe.
package stub
