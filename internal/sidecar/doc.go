// Package sidecar runs a program with another one beside it, the sidecar, which serves it: the sidecar is ready before the program
// starts, and ends after it has ended, however that comes about.
//
// The sidecar says that it is ready as it tells a service manager (sd_notify(3)).
//
// What does not belong here: what the two programs are.
package sidecar
