// Package configfile reads the configuration of a process that serves guests from a file of YAML, and writes such a file.
//
// One table of keys (keys.go, keys_nat.go) says what each key is called, which fields of a [daemon.Config] it sets, and how its
// value is written. The reader, the writer and the JSON Schema follow from it. Values have the text forms of the command line,
// which packages daemon, spec, hostconf and tap read.
//
// [Parse] reads a text that is bounded, and tells all that is wrong with it, each [Fault] with its line and column. [Marshal]
// writes a configuration so that Parse reads the same one. [File.Locate] finds the line of what is wrong with a configuration
// that could be read.
//
// What does not belong here: flags, opening files, what the host has, what becomes of the configuration.
package configfile
