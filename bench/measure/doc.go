// Package measure holds what a benchmark has counted and the arithmetic on it: samples, medians, ratios. It is pure: it
// reads no clock and no file.
//
// Rates and costs are in what was counted, per second and in processor seconds. Scaling them for readers is the business
// of package report.
package measure
