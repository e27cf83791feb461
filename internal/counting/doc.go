// Package counting reads structs of counters: their values, and the names by which people see them in the status and the log.
//
// [All] is for whoever prints counters, and for tests that look for one by its name. What does not belong here: counting,
// which is for the owner of each struct, and what is printed of counters that are zero.
package counting
