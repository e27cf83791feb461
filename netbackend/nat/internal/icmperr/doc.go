// Package icmperr tells the guest by ICMP what does not go on: what the policy is against, what the host's sockets report, what has
// outlived its time. It also tells the user of denials, once each.
//
// What does not belong here: why there is an error, errors that the guest sends, and echo.
package icmperr
