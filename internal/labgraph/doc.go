// Package labgraph draws the network of a lab as SVG.
//
// A picture loads nothing, follows the viewer's dark colours, and has for each guest a title that a pointer shows. Texts are escaped: names and
// addresses come from guests, too.
//
// What does not belong here: where guests and networks come from.
package labgraph
