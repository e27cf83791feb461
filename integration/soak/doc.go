// Soak runs one vring with several User-mode Linux guests, lets everything happen to them for a while, and tells whether
// vring is as it was:
//
//	go run ./integration/soak --time 30m --guests 4
//
// At random, by a seed that can be given again, guests and host call each other and exchange data, both ways at once or
// one after the other, reset connections halfway, call ports at which nobody listens, and send datagrams into the guest;
// the guests' service is killed, guests are switched off or killed with their front end and started again; and front ends
// that mean harm come beside them.
//
// Each end of a conversation judges it by itself (package talk). Data that came must be right always, and unless something
// was done to the guest meanwhile, both ends must have had it all. In the end all guests are quiet, and what vring holds
// is compared with what it held at the beginning. The exit status is 0 if all was well.
package main
