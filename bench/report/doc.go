// Package report turns the samples of a throughput benchmark into what people and programs read: a JSON document, a
// Markdown table and an SVG plot. Nothing in it measures.
//
// Ratios come first: rates of one machine say little about another, the ratio to that machine's loopback says more.
package report
