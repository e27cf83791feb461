// Package auditlog writes what guests do at the border of their network as lines of JSON: the format is documented in docs/audit.md. A
// [File] is a file of a bounded size with one before it, or standard output; a [Line] is what one line says.
//
// Files are opened by an [Opener], which may be another process: a path is of no use in the sandbox. When a file is full, the opener gives it
// another name, and opens an empty one in its place.
//
// What does not belong here: who records (package netbackend/nat/audit), which lines are left out (package daemon).
package auditlog
