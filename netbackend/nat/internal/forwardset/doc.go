// Package forwardset has the forwards of a guest, which change while it is served: which set is current, which queue pair follows which
// one, and what may be closed.
//
// What does not belong here: how a port is opened (package forward), and what comes by it.
package forwardset
