// Package passtopt reads passt's command line, and says in vring's configuration what it means.
//
// [Parse] reads words as passt does: by the rules of getopt_long, from left to right, with the first fault ending it. [Options.Translate] makes a
// [Plan] of them: a configuration, what the guest is told, and what is done otherwise than by passt. What passt takes from the host (addresses,
// routes, resolvers) is in a [Host], which the caller has looked up.
//
// It opens nothing, prints nothing, and knows no processes: in which of them guests are served is the command's.
package passtopt
