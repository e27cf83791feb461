package main

import (
	"fmt"
	"os"

	"github.com/vringnet/vring/integration/guest/agent"
)

// firstProcess is the identifier of a guest's first program.
const firstProcess = 1

func main() {
	serve := func() error { return agent.Serve(os.Stdin, os.Stdout, commands()) }
	if os.Getpid() == firstProcess {
		agent.Main(serve)
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}
