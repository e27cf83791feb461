package main

import (
	"net"
	"time"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/talk"
)

// talkLimit ends a conversation that hangs.
const talkLimit = 3 * time.Minute

// talkTo calls and has the caller's part of a conversation.
func talkTo(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	var n [4]int
	for i := range n {
		if n[i], err = args.Number(i + 1); err != nil {
			return nil, err
		}
	}
	script := talk.Script{ID: uint64(n[0]), Kind: talk.Kind(n[1]), Up: int64(n[2]), Down: int64(n[3])}
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	return talk.Call(conn.(*net.TCPConn), script, talkLimit), nil
}

// answer has the answerer's part of a conversation with everyone who connects, until the guest ends. Each result is an
// event.
func answer(args agent.Arguments, event func(any)) (any, error) {
	listener, err := listen(args, event)
	if err != nil {
		return nil, err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			if r, err := talk.Answer(conn.(*net.TCPConn), talkLimit); err == nil {
				event(r)
			}
		}()
	}
}

// urgentDial calls and says the parts, with their urgent bytes.
func urgentDial(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	return talk.Echo(conn.(*net.TCPConn), args[1:], talkLimit), nil
}

// urgentListen says to the first who connects what it has heard of him.
func urgentListen(args agent.Arguments, event func(any)) (any, error) {
	listener, err := listen(args, event)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	conn, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	return talk.EchoBack(conn.(*net.TCPConn), args[1:], talkLimit), nil
}
