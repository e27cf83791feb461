// Package stub has Ports that lead nowhere: [Null] swallows what the guest sends, and [Echo] sends it back.
//
// They serve to measure what rings and worker cost by themselves, and to try a front end or a driver without a network.
// Both look at every chain and check every virtio-net header (virtio 1.2 section 5.1.6.2) as any Port must.
//
// Concurrency: a Port belongs to its worker's thread, counters included. There is no socket, no timer, and no allocation
// in a turn. What frames mean does not belong here.
package stub
