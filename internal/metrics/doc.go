// Package metrics tells what the guests' threads have published, and how the process is, in Prometheus' text format.
//
// [Table] has all metrics that there are. Those of counters follow from the tags of the counters' structs ([counting.Describe]), so a new
// counter is a metric without a word here, and docs/metrics.md is made of the table. [Page] makes the text. It reads what
// threads have published, and wakes none of them.
//
// Labels are the guest's name and the number of its queue pair, which are as many as the process has from its start: nothing that a guest or
// a client does makes another one.
//
// What does not belong here: what is counted, how the page is asked for, who may ask.
package metrics
