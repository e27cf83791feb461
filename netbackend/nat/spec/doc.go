// Package spec has what users write for the engine as text: forwards, services of the host that are opened, and rules. It reads
// and prints them, checks each by itself, and tells whoever writes another program's form what to write here.
//
// It opens nothing and decides nothing: what a forward listens on, and which rule matches, is the engine's.
package spec
