// Package stats is what the NAT engine counts, and why its connections end. The names of counters are tags of their fields, and promises
// to users; whoever reads them by name uses package counting.
//
// What does not belong here: who counts, and when (package nat); how counters get to other threads (package worker).
package stats
