// Package house checks rules of this repository that the compiler does not know: which package may import which, where
// unsafe code may stand, that every package is explained, and that tests which docs/ names exist. It has nothing but tests. docs/design.md tells why the
// rules are as they are.
package house
