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

// uplinksKey is the key of a whole switch's uplinks.
func uplinksKey() key {
	return key{name: "uplinks", options: []string{"switch-uplink"}, about: "Where the switch leads beyond this process: " + daemon.UplinkForm + ".",
		value: list[daemon.Uplink]{stringer(daemon.ParseUplink), func(c *daemon.Config) *[]daemon.Uplink { return &c.Switches[0].Uplinks }}}
}

// wholeSwitches is the list of whole switches.
type wholeSwitches struct{}

func (wholeSwitches) read(r *reader, k *key, n ast.Node, c *daemon.Config) {
	keys := append(wholeSwitchKeys(), uplinksKey())
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	for _, item := range r.items(k, n) {
		one := &daemon.Config{Switch: new(daemon.Switch), Switches: make([]daemon.SwitchSettings, 1)}
		r.read(keys, r.named("a switch", item, names), one)
		c.Switches = append(c.Switches, daemon.SwitchSettings{Name: one.Switch.Name, Flood: one.Switch.Flood, Ageing: one.Switch.Ageing, Uplinks: one.Switches[0].Uplinks})
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
		if len(s.Uplinks) > 0 {
			k := uplinksKey()
			pairs = append(pairs, k.name+": ["+strings.Join(k.value.write(&daemon.Config{Switches: []daemon.SwitchSettings{s}}).items, ", ")+"]")
		}
		w.items = append(w.items, "{"+strings.Join(pairs, ", ")+"}")
	}
	return w
}

func (wholeSwitches) schema() object {
	return listOf(object{{"type", "object"}, {"properties", propertiesOf(append(wholeSwitchKeys(), uplinksKey()))}, {"additionalProperties", false}})
}
