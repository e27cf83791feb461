// Package flowlist measures how fast flows are that were listed twice, and sorts them.
//
// It is for those who look at a vring from outside; what flows there are is told by its control socket. What does not belong here: asking
// for flows, and printing them.
package flowlist
