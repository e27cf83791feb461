// Package auditlog writes what guests do at the border of their network as lines of JSON: the format is documented in docs/audit.md. A
// [File] is a file of a bounded size with one before it, or standard output; a [Line] is what one line says.
//
// The files are opened before the process enters its sandbox, and written by their descriptors ever after: when the file is full, its
// content is copied to the one before, and it begins anew. So no path is needed in the sandbox.
//
// What does not belong here: who records (package netbackend/nat/audit), which lines are left out (package daemon).
package auditlog
