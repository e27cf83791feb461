// Package gate opens and shuts the ports of gated forwards, by whether the guest's port takes connections.
//
// What does not belong here: the connections that come by a forward, and forwards without a gate.
package gate
