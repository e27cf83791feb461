// Package guest makes the initramfs of the test guest and talks to the program in it over the guest's console.
//
// The guest's program is in guest/init, the lines that the two exchange are in guest/proto. How the guest is run is not
// this package's business: see the packages qemu and uml.
//
// A Console may be used by several goroutines.
package guest
