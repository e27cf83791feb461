package qemurun

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// usualMemory is the size of a guest's memory if the command line does not say one, as QEMU has it for most machines.
const usualMemory = "128M"

// shareMemory lets the guest have memory that vring can map: one that the command line makes is shared, or one is added.
func (r *rewriter) shareMemory() error {
	uses, err := r.usesBackends()
	if err != nil {
		return err
	}
	if uses {
		return r.shareBackends()
	}
	size, err := r.memorySize()
	if err != nil {
		return err
	}
	backend := "memory-backend-memfd,id=" + memoryID + ",size=" + size + ",share=on"
	if path := r.take("mem-path"); path != "" {
		backend = "memory-backend-file,id=" + memoryID + ",size=" + size + ",share=on,mem-path=" + strings.ReplaceAll(path, ",", ",,")
	}
	if r.has("mem-prealloc") {
		r.take("mem-prealloc")
		backend += ",prealloc=on"
	}
	r.add("object", backend)
	r.add("machine", "memory-backend="+memoryID)
	return nil
}

// usesBackends reports whether the command line says what the guest's memory is.
func (r *rewriter) usesBackends() (bool, error) {
	machine, err := r.values("type", "machine", "M")
	nodes, err2 := r.values("type", "numa")
	uses := slices.ContainsFunc(machine, func(p properties) bool { return p.get("memory-backend") != "" }) ||
		slices.ContainsFunc(nodes, func(p properties) bool { return p.get("memdev") != "" })
	return uses, multierror.Append(nil, err, err2).ErrorOrNil()
}

// shareBackends sees to it that the memory of the command line is shared.
func (r *rewriter) shareBackends() error {
	for i, o := range r.options {
		if o.name != "object" {
			continue
		}
		list, err := readProperties(o.value, "qom-type")
		if err != nil {
			return wrap(o, err)
		}
		id, share := list.get("id"), list.get("share")
		switch kind := list.get("qom-type"); {
		case !strings.HasPrefix(kind, "memory-backend-") || isOn(share), share == "" && kind == "memory-backend-memfd":
		case share != "":
			return fmt.Errorf("-object %s: share=%s: vring must map the guest's memory; write share=on", id, share)
		case kind == "memory-backend-file":
			return fmt.Errorf("-object %s: vring must map the guest's memory; write share=on, and what the guest writes is in the file then", id)
		default:
			value, err := with(o.value, property{"share", "on"})
			if err != nil {
				return wrap(o, err)
			}
			r.options[i] = written(o.name, value)
			r.note("The memory %s is shared with vring (share=on).", id)
		}
	}
	return nil
}

// isOn reports whether a switch is on, in any of QEMU's words.
func isOn(value string) bool { return slices.Contains([]string{"on", "yes", "true", "y"}, value) }

// memorySize is the size of the guest's memory as an object wants it.
func (r *rewriter) memorySize() (string, error) {
	all, err := r.values("size", "m")
	size := usualMemory
	for _, p := range all {
		if s := p.get("size"); s != "" {
			size = s
		}
	}
	if last := size[len(size)-1]; '0' <= last && last <= '9' {
		size += "M" // the unit of -m, where -object has bytes
	}
	return size, err
}

// take removes an option, and returns the value of the last one; "" if there is none.
func (r *rewriter) take(name string) (value string) {
	r.options = slices.DeleteFunc(r.options, func(o option) bool {
		if o.name == name {
			value = o.value
		}
		return o.name == name
	})
	return value
}
