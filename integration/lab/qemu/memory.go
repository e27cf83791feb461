package qemu

import "fmt"

// deviceMiB is the size of a memory device: that of the blocks in which a Linux guest takes memory and gives it back.
const deviceMiB = 128

// PlugMemory plugs in a memory device of 128 MiB, shared with the back end, and returns its name. The guest has taken it when
// AcceptedMemory tells so.
//
// Each name is used once: with a name that was used a moment ago QEMU 11.1 was seen to lose the new memory's file, or its connection
// to the back end.
func (q *QMP) PlugMemory() (name string, err error) {
	q.devices++
	name = fmt.Sprintf("dimm%d", q.devices)
	memory := map[string]any{"qom-type": "memory-backend-memfd", "id": backendOf(name), "size": deviceMiB << 20, "share": true}
	if err := q.Execute("object-add", memory, nil); err != nil {
		return name, err
	}
	return name, q.Execute("device_add", map[string]any{"driver": "pc-dimm", "id": name, "memdev": backendOf(name)}, nil)
}

// UnplugMemory asks the guest to give a memory device back, which it has done when PluggedMemory does not count it any more.
// ReleaseMemory is due then.
func (q *QMP) UnplugMemory(name string) error {
	return q.Execute("device_del", map[string]any{"id": name}, nil)
}

// ReleaseMemory removes the memory of a device that is gone.
func (q *QMP) ReleaseMemory(name string) error {
	return q.Execute("object-del", map[string]any{"id": backendOf(name)}, nil)
}

func backendOf(device string) string { return fmt.Sprintf("memory-of-%s", device) }

// PluggedMemory returns how many memory devices there are.
func (q *QMP) PluggedMemory() (int, error) {
	var devices []struct{}
	err := q.Execute("query-memory-devices", nil, &devices)
	return len(devices), err
}

// AcceptedMemory returns how many memory devices the guest has taken, as its ACPI has reported (ACPI 6.5, section 6.3.5).
func (q *QMP) AcceptedMemory() (accepted int, err error) {
	const deviceCheck, success = 1, 0
	var slots []struct {
		Device string `json:"device"`
		Source int    `json:"source"`
		Status int    `json:"status"`
	}
	err = q.Execute("query-acpi-ospm-status", nil, &slots)
	for _, s := range slots {
		if s.Device != "" && s.Source == deviceCheck && s.Status == success {
			accepted++
		}
	}
	return accepted, err
}
