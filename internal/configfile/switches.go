package configfile

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/vringnet/vring/internal/daemon"
)

// wholeSwitchKeys are the keys of a switch that hold for all of it. They are those that a guest's switch has, too.
func wholeSwitchKeys() []key {
	return slices.DeleteFunc(switchKeys(), func(k key) bool { return !slices.Contains([]string{"switch-name", "flood", "ageing"}, k.name) })
}

// wholeSwitches is the list of whole switches.
type wholeSwitches struct{}

func (wholeSwitches) read(r *reader, k *key, n ast.Node, c *daemon.Config) {
	keys := wholeSwitchKeys()
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	for _, item := range r.items(k, n) {
		one := &daemon.Config{Switch: new(daemon.Switch)}
		r.read(keys, r.named("a switch", item, names), one)
		c.Switches = append(c.Switches, daemon.SwitchSettings{Name: one.Switch.Name, Flood: one.Switch.Flood, Ageing: one.Switch.Ageing})
	}
}

// write writes each switch in a line.
func (wholeSwitches) write(c *daemon.Config) written {
	w := written{list: true}
	for _, s := range c.Switches {
		one := &daemon.Config{Switch: &daemon.Switch{Name: s.Name, Flood: s.Flood, Ageing: s.Ageing}}
		var pairs []string
		for _, k := range wholeSwitchKeys() {
			if items := k.value.write(one).items; len(items) > 0 {
				pairs = append(pairs, k.name+": "+items[0])
			}
		}
		w.items = append(w.items, "{"+strings.Join(pairs, ", ")+"}")
	}
	return w
}

func (wholeSwitches) schema() object {
	return listOf(object{{"type", "object"}, {"properties", propertiesOf(wholeSwitchKeys())}, {"additionalProperties", false}})
}
