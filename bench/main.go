package main

import (
	"github.com/vringnet/vring/bench/adb"
	"github.com/vringnet/vring/bench/diff"
	"github.com/vringnet/vring/bench/instructions"
	"github.com/vringnet/vring/bench/latency"
	"github.com/vringnet/vring/bench/nat"
	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/bench/rings"
	"github.com/vringnet/vring/bench/source"
	"github.com/vringnet/vring/bench/taps"
)

func main() {
	program.Main("bench", []program.Command{
		{Name: "nat", Help: "vring nat beside QEMU's user network, passt and the loopback", Run: nat.Run},
		{Name: "rings", Help: "frames per second through rings, beside DPDK's vhost driver", Run: rings.Run},
		{Name: "latency", Help: "a frame's round trip through a ring, with polling and without", Run: latency.Run},
		{Name: "taps", Help: "vring tap beside testpmd, QEMU's own TAP and a veth pair", Run: taps.Run},
		{Name: "adb", Help: "a service in a guest by adb forward and by vring's own forward", Run: adb.Run},
		{Name: "diff", Help: "is one state of the source tree slower than another?", Run: diff.Run},
		{Name: "instructions", Help: "instructions of the data path for each frame, against a baseline", Run: instructions.Run},
		{Name: "turns", Help: "the turns of the data path that diff and instructions measure, by hand", Run: source.RunTurns},
	})
}
