// Package measure holds what a benchmark has counted and the arithmetic on it: samples, medians, ratios. It is pure: it
// reads no clock and no file.
//
// A rate is in Gbit/s (10^9 bits), a cost in processor seconds per GB (10^9 bytes).
package measure
