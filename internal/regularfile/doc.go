// Package regularfile reads files that a user or the host names, and that may be anything: it waits for no FIFO and no device,
// and reads no more than is wanted.
//
// What the bytes mean is not known here.
package regularfile
