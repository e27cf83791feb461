// Package route asks the host's routing table: whether an address is the host's, by which interface packets leave, and what has
// changed. It speaks rtnetlink(7) itself, since it is asked for each new flow and must not allocate.
//
// It knows neither flows nor what the answers mean to the policy.
package route
