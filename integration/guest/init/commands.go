package main

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/guest/proto"
)

// command does one request. It may report events before it returns its result.
type command func(args arguments, event func(v any)) (result any, err error)

// commands lists what the host may ask for, with the arguments; those in brackets may be left out.
func commands() map[string]command {
	return map[string]command{
		"insmod": insmod, // NAME
		"rmmod":  rmmod,  // NAME
		"dhcp":   dhcp,   // INTERFACE
		"link":   link,   // INTERFACE
		"up":     up,     // INTERFACE
		"down":   down,   // INTERFACE
		"ring":   ring,   // INTERFACE QUEUE

		"tcp-dial":   tcpDial,   // ADDRESS:PORT BYTES SEED
		"tcp-listen": tcpListen, // PORT BYTES SEED [CONNECTIONS]
		"tcp-echo":   tcpEcho,   // PORT
		"udp-dial":   udpDial,   // ADDRESS:PORT FIRST LAST [FROM-PORT]
		"udp-echo":   udpEcho,   // PORT
		"ping":       ping,      // ADDRESS COUNT [SIZE]
		"resolve":    resolve,   // NAME [SERVER]
		"http-get":   httpGet,   // URL
		"http-serve": httpServe, // PORT WORD

		"dmesg":    dmesg,
		"poweroff": func(arguments, func(any)) (any, error) { powerOff(); return nil, nil },
	}
}

// arguments are the fields of a request behind the command.
type arguments []string

// text returns argument i.
func (a arguments) text(i int) (string, error) {
	if i >= len(a) {
		return "", fmt.Errorf("argument %d is missing", i+1)
	}
	return a[i], nil
}

// number returns argument i as a number.
func (a arguments) number(i int) (int, error) {
	s, err := a.text(i)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}

// optional returns argument i as a number, or a default.
func (a arguments) optional(i, otherwise int) (int, error) {
	if i >= len(a) {
		return otherwise, nil
	}
	return a.number(i)
}

// dmesg returns the kernel's messages.
func dmesg(arguments, func(any)) (any, error) {
	buf := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buf)
	if err != nil {
		return nil, err
	}
	return proto.Text{Text: string(buf[:n])}, nil
}
