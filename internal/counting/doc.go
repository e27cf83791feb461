// Package counting reads structs of counters, by the names that people see in the status and the log, and publishes them.
//
// A counter is a uint64 field of a struct. Its name is its tag, as in `counter:"frames_in"`. Names are promises: users have
// them in their scripts. So a field may be renamed, and its tag may not be changed. What it counts and in which unit are tags, too ([Description]): this is
// the one place that says so, for people and for programs.
//
// Whoever counts owns the struct, and counts with plain additions. [All] is for the owner, for whoever prints counters, and for
// tests. For others the owner copies them now and then by a [Source] into [Published], which anybody may read at any time: a
// reader neither wakes the owner nor makes it wait.
//
// What does not belong here: counting, when to publish, and what is printed of counters that are zero.
package counting
