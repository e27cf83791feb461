package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// flood sends a frame as often as the card takes it, past the guest's own TCP/IP. A 16-bit number at the given offset
// counts from 1 to 65535, over and over: a port, for example.
func flood(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	milliseconds, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	text, err := args.Text(2)
	if err != nil {
		return nil, err
	}
	frame, err := hex.DecodeString(text)
	if err != nil {
		return nil, err
	}
	offset, err := args.Number(3)
	if err != nil {
		return nil, err
	}
	if offset < 0 || offset+2 > len(frame) {
		return nil, fmt.Errorf("offset %d is not in a frame of %d bytes", offset, len(frame))
	}
	frames, err := args.Number(4)
	if err != nil {
		return nil, err
	}
	return floodCard(name, frame, frame[offset:offset+2], time.Duration(milliseconds)*time.Millisecond, uint64(frames))
}

// floodCard sends frame for so long, and so often at least. It counts in number, which is part of the frame.
func floodCard(name string, frame, number []byte, duration time.Duration, least uint64) (proto.Flood, error) {
	var sent proto.Flood
	card, err := net.InterfaceByName(name)
	if err != nil {
		return sent, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0) // protocol 0: nothing is received
	if err != nil {
		return sent, fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrLinklayer{Ifindex: card.Index}
	for end := time.Now().Add(duration); sent.Frames < least || time.Now().Before(end); {
		for range 100 {
			binary.BigEndian.PutUint16(number, uint16(sent.Frames%65535+1))
			switch err := unix.Sendto(fd, frame, 0, to); {
			case err == nil:
				sent.Frames++
			case !errors.Is(err, unix.ENOBUFS): // the card is busy
				return sent, fmt.Errorf("send a frame: %w", err)
			}
		}
	}
	return sent, nil
}

// roundTrips makes connections to an echo server, one after the other, and measures how long each takes until the first
// byte has come back.
func roundTrips(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	count, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	var result proto.RoundTrips
	for range count {
		begun := time.Now()
		if err := roundTrip(address); err != nil {
			result.Failed = append(result.Failed, err.Error())
			continue
		}
		result.Times = append(result.Times, time.Since(begun))
	}
	return result, nil
}

func roundTrip(address string) error {
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}
