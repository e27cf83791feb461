// Package report turns the samples of benchmarks into what people and programs read: a JSON document, a Markdown table
// and an SVG plot. Nothing in it measures.
//
// [Result] is the document of TCP throughput. Other benchmarks bring their own [Document], and share [Table] and [Chart].
//
// Ratios come first: rates of one machine say little about another, the ratio to a peer on that machine says more.
package report
