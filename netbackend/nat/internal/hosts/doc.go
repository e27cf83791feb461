// Package hosts knows the hosts that a guest consists of, by the MAC and IP addresses that they have sent from.
//
// All threads of a guest use one Table. Which host a frame comes from is found without a lock; addresses are looked up under one,
// once a flow. It knows neither flows nor frames.
package hosts
