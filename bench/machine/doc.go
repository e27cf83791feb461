// Package machine tells on what a benchmark has run, and how much processor time processes have used. It reads /proc.
package machine
