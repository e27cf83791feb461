package main

import (
	"fmt"
	"os/exec"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// commands lists what the host may ask for, with the arguments; those in brackets may be left out.
func commands() map[string]agent.Command {
	return map[string]agent.Command{
		"insmod": insmod, // NAME
		"rmmod":  rmmod,  // NAME
		"dhcp":   dhcp,   // INTERFACE
		"slaac":  slaac,  // INTERFACE
		"dhcp6":  dhcp6,  // INTERFACE
		"link":   link,   // INTERFACE
		"up":     up,     // INTERFACE
		"down":   down,   // INTERFACE
		"ring":   ring,   // INTERFACE QUEUE

		"tcp-dial":   tcpDial,   // ADDRESS:PORT BYTES SEED
		"tcp-read":   tcpRead,   // ADDRESS:PORT BYTES
		"tcp-listen": tcpListen, // PORT BYTES SEED [CONNECTIONS]
		"tcp-echo":   tcpEcho,   // PORT
		"udp-dial":   udpDial,   // ADDRESS:PORT FIRST LAST [FROM-PORT]
		"udp-flood":  udpFlood,  // ADDRESS:PORT SIZE [FROM-PORT]
		"udp-echo":   udpEcho,   // PORT
		"udp-runs":   udpRuns,   // ADDRESS:PORT RUNS COUNT SIZE
		"ping":       ping,      // ADDRESS COUNT [SIZE]
		"resolve":    resolve,   // NAME [SERVER]
		"http-get":   httpGet,   // URL
		"http-serve": httpServe, // PORT WORD
		"talk":       talkTo,    // ADDRESS:PORT ID KIND UP DOWN
		"answer":     answer,    // PORT

		"urgent-dial":   urgentDial,   // ADDRESS:PORT PART...
		"urgent-listen": urgentListen, // PORT PART...

		"spawn": agent.Spawn, // COMMAND [ARGUMENT]...: runs it in a process of its own
		"kill":  agent.Kill,  // PROCESS

		"flood":       flood,      // INTERFACE MILLISECONDS FRAME-IN-HEX OFFSET-OF-NUMBER LEAST-FRAMES
		"round-trips": roundTrips, // ADDRESS:PORT COUNT

		"tree":   tree,   // NAME HOST-FOLDER [SHARED-FOLDER]
		"script": script, // TREE FILE [ARGUMENT]...

		"run":      runProgram, // NAME [ARGUMENT]...
		"dmesg":    dmesg,
		"reboot":   func(agent.Arguments, func(any)) (any, error) { agent.Restart(); return nil, nil },
		"poweroff": func(agent.Arguments, func(any)) (any, error) { agent.PowerOff(); return nil, nil },
	}
}

// runProgram runs a program of the image and returns what it prints.
func runProgram(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("/bin/"+name, args[1:]...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return proto.Text{Text: string(out)}, nil
}

// dmesg returns the kernel's messages.
func dmesg(agent.Arguments, func(any)) (any, error) {
	buf := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return nil, err
	}
	return proto.Text{Text: string(buf[:n])}, nil
}
