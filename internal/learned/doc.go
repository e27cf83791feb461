// Package learned makes rules of what guests did while everything was open to them: those that would have sufficed. A [Book] takes what a guest
// has asked for and begun, and writes it as a part of a configuration file.
//
// A connection counts by the name that it has told itself, or, where servers speak first, by the one that the guest was answered last with its
// address. Without a name it counts by its address.
//
// All that a book keeps is bounded. What it had no room for, it says in what it writes.
//
// What does not belong here: where entries come from (package netbackend/nat/audit), and how the text reaches the disk (package broker).
package learned
