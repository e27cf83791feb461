package main

import (
	"net"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/segments"
)

// udpRuns sends runs of datagrams, each run by one system call, and counts the datagrams that come back.
func udpRuns(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	var n [3]int
	for i := range n {
		if n[i], err = args.Number(i + 1); err != nil {
			return nil, err
		}
	}
	conn, err := net.Dial("udp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var result proto.Echoes
	for number := range n[0] {
		answered, err := segments.Ask(conn.(*net.UDPConn), segments.Run{Number: number, Count: n[1], Size: n[2]})
		if err != nil {
			return nil, err
		}
		result.Sent, result.Answered = result.Sent+n[1], result.Answered+answered
	}
	return result, nil
}
