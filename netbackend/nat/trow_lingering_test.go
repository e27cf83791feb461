package nat_test

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// unread makes a connection whose host has ended, and reads nothing. The guest sends up to most bytes, of which it returns those that
// were taken.
func (b *bench) unread(most int, opt ...porttest.TCPOptions) (c *porttest.TCP, host *net.TCPConn, taken []byte) {
	b.t.Helper()
	c, host = b.connect(opt...)
	require.NoError(b.t, host.SetReadBuffer(window)) // else the kernel may let it grow to hold all
	require.NoError(b.t, host.CloseWrite())
	b.Until("the host's end comes", c.Ended)
	data := noise(most)
	c.Send(data)
	b.Settle()
	return c, host, data[:c.SndUna-c.ISS-1]
}

// endNow ends the guest's side of a connection behind what was taken of it.
func (b *bench) endNow(c *porttest.TCP) {
	fin := c.Segment(porttest.ACK|porttest.FIN, nil)
	fin.Seq = c.SndUna
	c.Silent, c.SndMax = true, fin.Seq+1
	c.SendSegment(fin)
	b.Settle()
	c.Forget()
}

// endUnread is unread for a connection that both sides end.
func (b *bench) endUnread(most int, opt ...porttest.TCPOptions) (host *net.TCPConn, taken []byte) {
	b.t.Helper()
	c, host, taken := b.unread(most, opt...)
	b.endNow(c)
	return host, taken
}

// lingering returns the connections that linger.
func (b *bench) lingering() []nat.FlowInfo {
	some, _ := b.flows(nat.FlowFilter{State: "lingering"})
	return some
}

// requireReset fails the test unless the connection ends by a reset once its data are read.
func (b *bench) requireReset(host *net.TCPConn) {
	b.t.Helper()
	require.ErrorIs(b.t, b.readAll(host).err, unix.ECONNRESET)
}

// requireWhole fails the test unless the host gets all and then the end.
func (b *bench) requireWhole(host *net.TCPConn, sent []byte) {
	b.t.Helper()
	r := b.readAll(host)
	require.NoError(b.t, r.err)
	require.True(b.t, bytes.Equal(sent, r.data), "%d bytes instead of %d", len(r.data), len(sent))
}

const (
	// window is the receive buffer of peers that do not read, and much is far more, in bytes.
	window = 64 << 10
	much   = 1 << 20
)

// unsentInKernel returns how many bytes sockets of this namespace have to send or have sent and not seen acknowledged, and how many of
// these sockets are orphans.
func unsentInKernel(t *testing.T) (bytes, orphans int) {
	t.Helper()
	for _, row := range kernelSockets(t)[1:] {
		unsent, _, _ := strings.Cut(row[4], ":")
		n, err := strconv.ParseInt(unsent, 16, 64)
		require.NoError(t, err)
		bytes += int(n)
		if n > 0 && row[9] == "0" {
			orphans++
		}
	}
	return bytes, orphans
}

func TestT73PeersThatDoNotReadPinNoMoreThanTheBudget(t *testing.T) {
	if inNamespace(t) {
		return
	}
	const atOnce, later, budget = 16, 40, 4 << 20
	b := newBench(t, withKernelMemory(budget))
	var guests []*porttest.TCP
	var hosts []*net.TCPConn
	for range atOnce { // before anything is looked at
		c, host, _ := b.unread(much)
		guests, hosts = append(guests, c), append(hosts, host)
	}
	open, _ := unsentInKernel(t)
	require.Greater(t, open, 2*budget, "the guest has tried")
	for _, c := range guests {
		b.endNow(c)
		require.LessOrEqual(t, b.kernelMemory(), budget>>10)
	}
	requireBounded := func() {
		unsent, orphans := unsentInKernel(t)
		require.LessOrEqual(t, unsent, budget)
		require.Greater(t, unsent, budget/4, "what fits the budget stays")
		require.Zero(t, orphans, "all that the kernel holds is known")
	}
	requireBounded()
	evicted := int(b.port.Counters().LingeringEvicted)
	require.NotZero(t, evicted)
	require.Equal(t, atOnce, evicted+len(b.lingering()))
	require.Len(t, b.Notices(), 1, "the user is told once")
	b.requireReset(hosts[0])
	for range later {
		host, _ := b.endUnread(much)
		hosts = append(hosts, host)
		requireBounded()
	}

	for _, host := range hosts {
		require.NoError(t, host.Close())
	}
	b.Settle()
	require.Zero(t, b.Sockets())
	require.Zero(t, b.kernelMemory())
	before := b.Turns()
	b.Run(24 * time.Hour)
	require.Less(t, b.Turns()-before, 10, "nothing is looked at any more")
}

func TestT73ASlowReaderGetsAllAndThenTheSocketIsClosed(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) *bench{
		"one queue pair": func(t *testing.T) *bench { return newBench(t, setup{}) },
		"several":        func(t *testing.T) *bench { b, _ := newQueues(t, 2); return b },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			c, host := b.connect()
			require.NoError(t, host.SetReadBuffer(window))
			require.NoError(t, host.CloseWrite())
			sent := noise(much / 4)
			c.Send(sent)
			c.Close()
			b.Until("both sides have ended", func() bool { return c.FinAcked && c.FinReceived })
			first := b.readSome(host, len(sent)/2)
			require.True(t, bytes.Equal(sent[:len(first)], first))
			b.Run(50 * time.Minute)
			b.requireWhole(host, sent[len(first):])
			b.Until("the socket is closed", func() bool {
				b.look()
				return b.kernelMemory() == 0
			})
		})
	}
}

func TestT73ALingeringConnectionIsSeenAndCounted(t *testing.T) {
	b := newBench(t, setup{})
	_, sent := b.endUnread(much)
	all := b.lingering()
	require.Len(t, all, 1)
	require.Equal(t, all, b.port.Snapshot(b.Now()).Flows)
	require.EqualValues(t, len(sent), all[0].FromGuest)
	require.Equal(t, b.server, all[0].Remote)
	require.Equal(t, b.server.Port(), all[0].Target.Port())
	require.Contains(t, b.port.Snapshot(b.Now()).Usage, nat.Usage{Name: "lingering connections", Used: 1, Most: nat.DefaultConfig().MaxFlows / 4})
	require.Greater(t, b.kernelMemory(), len(sent)>>11)
}

func TestT73AConnectionWhosePeerHasTakenAllDoesNotLinger(t *testing.T) {
	b := newBench(t, setup{})
	host, sent := b.endUnread(1000)
	require.Zero(t, b.Sockets())
	require.Empty(t, b.lingering())
	b.requireWhole(host, sent)
}

func TestT73WhatEndsALingeringConnection(t *testing.T) {
	const closedPeer, stuck = false, "the peer takes nothing"
	for name, c := range map[string]struct {
		end   func(b *bench, host *net.TCPConn)
		reset bool // the peer learns it
	}{
		"the peer is gone":     {func(b *bench, host *net.TCPConn) { _ = host.Close(); b.Settle() }, closedPeer},
		"somebody wants it":    {func(b *bench, _ *net.TCPConn) { b.endFlows(nat.FlowFilter{State: "lingering"}) }, true},
		"the policy closes it": {func(b *bench, _ *net.TCPConn) { b.port.SetPolicy(opening(b.t)); b.Turn() }, true},
		stuck: {func(b *bench, _ *net.TCPConn) {
			begun := b.Now()
			b.Skip("it is given up", func() bool { return b.Sockets() == 0 })
			require.GreaterOrEqual(b.t, time.Duration(b.Now()-begun), time.Hour)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			host, _ := b.endUnread(much)
			require.Equal(t, 1, b.Sockets())
			c.end(b, host)
			require.Zero(t, b.Sockets())
			require.Zero(t, b.kernelMemory())
			require.Empty(t, b.lingering())
			if c.reset {
				b.requireReset(host)
			}
			require.Equal(t, name == stuck, b.port.Counters().LingeringGivenUp == 1)
			require.Equal(t, name == "the policy closes it", b.port.Counters().Withdrawn == 1)
		})
	}
}

func TestT73WhatDoesNotEndALingeringConnection(t *testing.T) {
	for name, happens := range map[string]func(b *bench){
		"the front end is gone":                func(b *bench) { b.Disconnect(); b.Run(time.Minute) },
		"the driver has reset its device":      func(b *bench) { b.StopRings(paused); b.Run(time.Minute) },
		"the engine is closed":                 func(b *bench) { b.Stop() },
		"a policy that is for new flows only":  func(b *bench) { b.port.SetPolicy(opening(b.t).KeepingFlows()); b.Turn() },
		"a policy that leaves its destination": func(b *bench) { b.port.SetPolicy(opening(b.t, b.server)); b.Turn() },
		"a connection on the guest's same port": func(b *bench) {
			_, host := b.connect(porttest.TCPOptions{LocalPort: 7000})
			b.t.Cleanup(func() { _ = host.Close() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			host, sent := b.endUnread(much, porttest.TCPOptions{LocalPort: 7000})
			happens(b)
			require.NoError(t, host.SetReadDeadline(time.Now().Add(time.Minute)))
			all, err := io.ReadAll(host)
			require.NoError(t, err)
			require.True(t, bytes.Equal(sent, all), "%d bytes instead of %d", len(all), len(sent))
		})
	}
}

// Of connections whose peers take nothing there may be as many as of a class of flows. Which of them go the test of package shard tells.
func TestT73LingeringConnectionsAreBoundedInNumber(t *testing.T) {
	const flows, few, more = 16, 4, 3
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = flows }})
	var hosts []*net.TCPConn
	var sent [][]byte
	for range few + more {
		host, taken := b.endUnread(much)
		hosts, sent = append(hosts, host), append(sent, taken)
	}
	require.Len(t, b.lingering(), few)
	require.EqualValues(t, more, b.port.Counters().LingeringEvicted)
	whole := 0
	for i, host := range hosts {
		if r := b.readAll(host); r.err == nil {
			require.True(t, bytes.Equal(sent[i], r.data))
			whole++
		}
	}
	require.Equal(t, few, whole)
}

func TestT73LingeringConnectionsGiveWayWhenDescriptorsAreUsedUp(t *testing.T) {
	const sockets = 16
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxSockets = sockets }})
	for range sockets {
		b.endUnread(much)
	}
	require.Equal(t, sockets, b.Sockets())
	for range sockets {
		b.connect()
	}
	require.EqualValues(t, sockets, b.port.Counters().LingeringEvicted)
	require.Zero(t, b.port.Counters().SocketsSpent)
}
