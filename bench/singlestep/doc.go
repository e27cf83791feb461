// Package singlestep counts the instructions that a thread executes between two signals, by single-stepping it under ptrace.
// Unlike a time, such a count does not depend on what else the machine does, and needs no counters of the processor, which
// virtual machines often lack.
//
// What is counted is what the thread itself executes in user space. A system call is one instruction, whatever the kernel
// does. A repeated string instruction counts once for each repetition. While the thread is stepped through, all other
// threads of its program stand still, so that nobody preempts it and nobody changes what it sees. It must therefore not
// wait for another thread between the signals.
package singlestep
