// Package daemon serves guests: it opens what a configuration names, gives the process's rights up, and serves front ends
// until it is told to end.
//
// [Config] is the whole configuration, typed, and [Config.Check] tells all that is wrong with it. Each of its fields says
// by its tags what users call it, its unit and default, and whether it can change while guests are served: see [Fields].
// The life of a [Daemon] is [Open], [Daemon.Confine], [Daemon.Serve]; [Daemon.Status] tells how it is in the meantime, and
// each [Event] what happens to it.
//
// What a user reads is made by whoever prints: this package knows neither flags nor texts of the log. It names options by
// their names ([Option]), which a [Fault] has spelled as the reader writes them. What front ends do wrong is still logged by
// package vhostuser itself, and a network's own faults are told by the packages that know it.
//
// What does not belong here: how frames are carried, what the sandbox keeps, what the broker does.
package daemon
