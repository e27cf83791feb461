package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vringnet/vring/integration/lab/guest/agent"
)

// firstProcess is the identifier of a guest's first program.
const firstProcess = 1

// processors is how many the runtime believes in. With one alone it takes it from each call that blocks and gives it back
// after the call: several system calls for each, and in User-mode Linux more time than the traffic.
const processors = 4

func main() {
	runtime.GOMAXPROCS(processors)
	serve := func() error { return agent.Serve(os.Stdin, os.Stdout, commands()) }
	if os.Getpid() == firstProcess {
		agent.Main(serve)
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}
