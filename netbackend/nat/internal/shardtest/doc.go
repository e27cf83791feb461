// Package shardtest is a shard for tests of the parts that work in its turns: on the networks that guests have by default, with a clock of the
// test's, a receive ring whose frames can be read, and a worker that keeps what the user is told.
//
// What does not belong here: the engine as a whole, for which package porttest has a guest.
package shardtest
