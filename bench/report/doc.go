// Package report turns the samples of benchmarks into what people and programs read: a JSON document, Markdown tables and
// SVG plots. Nothing in it measures.
//
// [Result] is the document of bench/nat: a table and a plot for each test. Other benchmarks bring their own [Document]. All
// share [Table] and [Chart].
//
// Ratios come first: rates of one machine say little about another, the ratio to a peer on that machine says more.
package report
