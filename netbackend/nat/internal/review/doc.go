// Package review judges flows again by the policy when the policy is another one, or the host's addresses have changed.
//
// What does not belong here: the verdict of a policy (package policy), and the first one of a flow, which its protocol asks for.
package review
