// The command passtrecorder runs the real passt with each of a list of command lines, and records what it does: whether it serves, what it prints,
// on which ports it listens, what DHCP tells a guest. The test of package passtopt compares this with what vring makes of the same words.
//
//	go run ./integration/passtrecorder -o internal/passtopt/testdata/recorded.json internal/passtopt/testdata/commands.txt
//
// It needs root, and the userland of a newer Debian (integration/install.sh). -program runs another program instead.
package main
