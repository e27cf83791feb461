package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// Offsets in the configuration space of a PCI device, and in a capability of a virtio device (virtio 1.2, section
// 4.1.4).
const (
	pciCapabilities  = 0x34 // offset of the first capability
	pciVendor        = 0x09 // kind of capability
	capNext          = 1
	capType          = 3
	capBar           = 4
	capOffset        = 8
	capLength        = 12
	capData          = 16 // of pciConfigAccess: the window
	commonConfig     = 1  // type: the registers of the device
	pciConfigAccess  = 5  // type: a window to the registers, in configuration space
	commonSelect     = 22 // in commonConfig: the queue that the others are about
	commonQueueSize  = 24
	commonAvail      = 40
	commonUsed       = 48
	capabilitiesMost = 48 // what fits in 256 bytes
)

// ring reads from the card's registers where the driver has put a queue. The registers are reached through the window in
// configuration space (section 4.1.4.9), because that is a file.
func ring(args agent.Arguments, _ func(any)) (any, error) {
	name, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	queue, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile("/sys/class/net/"+name+"/device/../config", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := newRegisters(f)
	if err != nil {
		return nil, err
	}
	r.write16(commonSelect, uint16(queue))
	result := proto.Ring{
		Size:  int(r.read(commonQueueSize, 2)),
		Avail: int64(r.read64(commonAvail)),
		Used:  int64(r.read64(commonUsed)),
	}
	return result, r.err
}

// registers reads and writes the common configuration of a virtio device.
type registers struct {
	config *os.File
	common pciCapability
	window pciCapability
	err    error // of the first access that failed
}

// pciCapability is a virtio capability: where it stands, and the registers that it describes.
type pciCapability struct {
	at     int64
	bar    byte
	offset uint32
}

func newRegisters(config *os.File) (*registers, error) {
	r := &registers{config: config}
	var space [256]byte
	if _, err := config.ReadAt(space[:], 0); err != nil {
		return nil, err
	}
	found := 0
	at := int(space[pciCapabilities])
	for range capabilitiesMost {
		if at == 0 || at+capData > len(space) {
			break
		}
		c := pciCapability{int64(at), space[at+capBar], binary.LittleEndian.Uint32(space[at+capOffset:])}
		switch {
		case space[at] != pciVendor:
		case space[at+capType] == commonConfig:
			r.common = c
			found++
		case space[at+capType] == pciConfigAccess:
			r.window = c
			found++
		}
		at = int(space[at+capNext])
	}
	if found != 2 {
		return nil, errors.New("the card is no modern virtio device")
	}
	return r, nil
}

// aim points the window at a register.
func (r *registers) aim(register, size uint32) {
	r.put(capBar, []byte{r.common.bar})
	r.put(capOffset, binary.LittleEndian.AppendUint32(nil, r.common.offset+register))
	r.put(capLength, binary.LittleEndian.AppendUint32(nil, size))
}

// put writes to the window's capability.
func (r *registers) put(offset int64, b []byte) {
	if r.err != nil {
		return
	}
	if _, err := r.config.WriteAt(b, r.window.at+offset); err != nil {
		r.err = fmt.Errorf("write configuration space: %w", err)
	}
}

func (r *registers) write16(register uint32, value uint16) {
	r.aim(register, 2)
	r.put(capData, binary.LittleEndian.AppendUint16(nil, value))
}

// read reads a register of up to 4 bytes.
func (r *registers) read(register, size uint32) uint32 {
	r.aim(register, size)
	var b [4]byte
	if r.err != nil {
		return 0
	}
	if _, err := r.config.ReadAt(b[:size], r.window.at+capData); err != nil {
		r.err = fmt.Errorf("read configuration space: %w", err)
	}
	return binary.LittleEndian.Uint32(b[:])
}

func (r *registers) read64(register uint32) uint64 {
	low := r.read(register, 4)
	return uint64(r.read(register+4, 4))<<32 | uint64(low)
}
