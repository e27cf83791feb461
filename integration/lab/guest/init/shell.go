package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// The guest has one network card.
const shellInterface = "eth0"

// runShell configures the network and runs busybox on the console until the user leaves it.
func runShell() error {
	result, err := dhcp(agent.Arguments{shellInterface}, nil)
	if err != nil {
		fmt.Printf("no network: %v\n", err)
	} else {
		lease := result.(proto.Lease)
		fmt.Printf("%s has %s, router %s, DNS %s\n", shellInterface, lease.Address, lease.Router, strings.Join(lease.DNS, " "))
	}
	if err := exec.Command("/bin/busybox", "--install", "-s", "/bin").Run(); err != nil {
		return fmt.Errorf("busybox: %w", err)
	}
	terminal, err := os.OpenFile(shellTerminal(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer terminal.Close()
	shell := exec.Command("/bin/sh")
	shell.Env = []string{"PATH=/bin", "HOME=/", "TERM=linux", "PS1=guest:\\w# "}
	shell.Stdin, shell.Stdout, shell.Stderr = terminal, terminal, terminal
	// A session of its own with the terminal, so that Ctrl-C works: /dev/console cannot be a controlling terminal.
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	_ = shell.Run() // its exit status is that of the user's last command
	return nil
}

// shellTerminal names the terminal behind the console.
func shellTerminal() string {
	active, err := os.ReadFile("/sys/class/tty/console/active")
	names := strings.Fields(string(active))
	if err != nil || len(names) == 0 {
		return "/dev/console"
	}
	return "/dev/" + names[len(names)-1]
}
