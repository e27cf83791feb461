package main

import (
	"os"
	"strings"

	"github.com/vringnet/vring/integration/lab/guest/agent"
)

// shellArgument on the kernel's command line asks for a shell.
const shellArgument = "vring.shell"

func main() {
	if os.Getpid() != 1 { // spawned
		_ = agent.Serve(os.Stdin, os.Stdout, commands())
		return
	}
	agent.Main(func() error {
		if strings.Contains(kernelCommandLine(), shellArgument) {
			return runShell()
		}
		return agent.Serve(os.Stdin, os.Stdout, commands())
	})
}

func kernelCommandLine() string {
	line, _ := os.ReadFile("/proc/cmdline")
	return string(line)
}
