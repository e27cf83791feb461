// Package doctor looks at the host for what vring and its front ends need or are better with, and says what can be done
// about what is missing. It changes nothing.
//
// What it looks at is passed in ([Host]), so that tests can show it any host. What does not belong here: checks of a
// command line or of a running guest.
package doctor
