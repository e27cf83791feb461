package pcapng

import (
	"encoding/binary"
	"time"
)

// Types of blocks.
const (
	Section    = 0x0a0d0d0a
	Interface  = 1
	Statistics = 5
	Packet     = 6
)

// Codes of options, each in its block.
const (
	optionEnd = 0

	sectionApplication = 4

	interfaceName        = 2
	interfaceDescription = 3
	interfaceResolution  = 9
	interfaceFilter      = 11

	packetFlags = 2

	statisticsReceived = 4
	statisticsDropped  = 5
)

const (
	byteOrder    = 0x1a2b3c4d
	linkEthernet = 1
	nanoseconds  = 9 // 10^-9 s

	// Directions, in packetFlags.
	inbound, outbound = 1, 2
)

// begin begins a block, and end ends the one that began at start.
func begin(b []byte, kind uint32) []byte {
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint32(b, 0) // the length, once it is known
}

func end(b []byte, start int) []byte {
	n := uint32(len(b) - start + 4)
	binary.LittleEndian.PutUint32(b[start+4:], n)
	return binary.LittleEndian.AppendUint32(b, n)
}

// pad fills up a block to a multiple of 4 bytes. Blocks begin at one.
func pad(b []byte, n int) []byte {
	for ; n%4 != 0; n++ {
		b = append(b, 0)
	}
	return b
}

// option appends an option's code and length; its value, of n bytes, follows.
func option(b []byte, code uint16, n int) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	return binary.LittleEndian.AppendUint16(b, uint16(n))
}

// text appends an option that is a text, unless it is empty. It is cut after maxText bytes.
func text(b []byte, code uint16, s string) []byte {
	const maxText = 4096
	if s == "" {
		return b
	}
	s = s[:min(len(s), maxText)]
	b = option(b, code, len(s))
	return pad(append(b, s...), len(s))
}

func number(b []byte, code uint16, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(option(b, code, 8), v)
}

// AppendSection begins a file that application writes.
func AppendSection(b []byte, application string) []byte {
	start := len(b)
	b = begin(b, Section)
	b = binary.LittleEndian.AppendUint32(b, byteOrder)
	b = binary.LittleEndian.AppendUint32(b, 1)          // version 1.0
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // the section's length is not told
	b = text(b, sectionApplication, application)
	return end(option(b, optionEnd, 0), start)
}

// InterfaceInfo describes an interface. Interfaces have numbers from 0 on, in the order in which they are appended.
type InterfaceInfo struct {
	Name, Description string
	Filter            string // in tcpdump's language, "" for none
	SnapLen           int    // bytes
}

// AppendInterface appends an interface.
func AppendInterface(b []byte, i *InterfaceInfo) []byte {
	start := len(b)
	b = begin(b, Interface)
	b = binary.LittleEndian.AppendUint32(b, linkEthernet)
	b = binary.LittleEndian.AppendUint32(b, uint32(i.SnapLen))
	b = text(b, interfaceName, i.Name)
	b = text(b, interfaceDescription, i.Description)
	if i.Filter != "" {
		const isText = "\x00"
		b = text(b, interfaceFilter, isText+i.Filter)
	}
	b = pad(append(option(b, interfaceResolution, 1), nanoseconds), 1)
	return end(option(b, optionEnd, 0), start)
}

// PacketInfo is a packet.
type PacketInfo struct {
	Interface int
	Time      time.Time
	Inbound   bool   // the interface received it, else it sent it
	Length    int    // in bytes
	Data      []byte // as much of it as was captured
}

// AppendPacket appends a packet.
func AppendPacket(b []byte, p *PacketInfo) []byte {
	start := len(b)
	b = begin(b, Packet)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Interface))
	b = appendTime(b, p.Time)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Length))
	b = pad(append(b, p.Data...), len(p.Data))
	way := uint32(outbound)
	if p.Inbound {
		way = inbound
	}
	b = binary.LittleEndian.AppendUint32(option(b, packetFlags, 4), way)
	return end(option(b, optionEnd, 0), start)
}

// appendTime appends a time in nanoseconds, the upper half first.
func appendTime(b []byte, at time.Time) []byte {
	t := uint64(at.UnixNano())
	b = binary.LittleEndian.AppendUint32(b, uint32(t>>32))
	return binary.LittleEndian.AppendUint32(b, uint32(t))
}

// StatisticsInfo is what was counted at an interface since the capture began.
type StatisticsInfo struct {
	Interface         int
	Time              time.Time
	Received, Dropped uint64 // packets that the filter has selected, and those of them that are missing
}

// AppendStatistics appends counters of an interface.
func AppendStatistics(b []byte, s *StatisticsInfo) []byte {
	start := len(b)
	b = begin(b, Statistics)
	b = binary.LittleEndian.AppendUint32(b, uint32(s.Interface))
	b = appendTime(b, s.Time)
	b = number(b, statisticsReceived, s.Received)
	b = number(b, statisticsDropped, s.Dropped)
	return end(option(b, optionEnd, 0), start)
}
