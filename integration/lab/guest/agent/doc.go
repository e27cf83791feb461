// Package agent is what every program in a guest begins and ends with: it mounts what Linux needs, loads the drivers of
// the initramfs, and then does what the host asks for over the console, in the lines of package proto.
//
//	func main() {
//		agent.Main(func() error { return agent.Serve(os.Stdin, os.Stdout, commands) })
//	}
//
// Each command runs in a goroutine of its own. A program that is not the guest's first one calls Serve alone. What the
// commands do is not this package's business.
package agent
