// Package presets has the groups of names that rules can name without a file of the user's, such as "@apt": the registries of package
// managers, git forges, registries of containers, and the APIs that agents use.
//
// A group is a file of names, one a line, with comments behind "#": what a user's own group is, too. Its first line says what it is
// for. The files are compiled in. They change with versions of vring, and the names in them are those that a host's owner would find in
// the documentation of each service, not what somebody has measured.
//
// All functions are pure; any goroutine may call them.
//
// What does not belong here: what a name means in a rule, ports and protocols, and groups of users.
package presets
