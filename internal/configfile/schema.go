package configfile

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/vringnet/vring/internal/daemon"
)

// object is an object of JSON whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{m.name, m.value} {
			text, err := json.Marshal(part)
			if err != nil {
				return nil, err
			}
			b.Write(text)
			if j == 0 {
				b.WriteByte(':')
			}
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// schema describes a value of a form.
func (f form[T]) schema() object {
	if len(f.enum) > 0 {
		return object{{"enum", f.enum}}
	}
	var kind any = f.kinds
	if len(f.kinds) == 1 {
		kind = f.kinds[0]
	}
	o := object{{"type", kind}}
	switch f.kinds[0] {
	case "string":
		o = append(o, member{"minLength", 1})
	case "integer":
		o = append(o, member{"minimum", 0})
	}
	return o
}

// listOf describes a list. A key without a value is an empty one.
func listOf(item object) object {
	return object{{"type", []string{"array", "null"}}, {"items", item}, {"maxItems", maxItems}}
}

// Schema returns the JSON Schema (draft 2020-12) of the file, which ends in a new line.
func Schema() []byte { return (*Language)(nil).Schema() }

// Schema is Schema for files in the language. That of nil is this package's own.
func (l *Language) Schema() []byte {
	properties := append(object{{guestsKey, l.guestsSchema()}}, l.withoutRefused(propertiesOf(topKeys()))...)
	document := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", l.title()},
		{"type", "object"}, {"properties", properties}, {"additionalProperties", false}, {"required", []string{guestsKey}},
	}
	if l == nil {
		document = append(document[:3:3], sharedSchema(properties)...)
	}
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		panic(err) // texts and numbers
	}
	return append(text, '\n')
}

// sharedSchema describes a file whose guests can share a network, beside its other properties.
func sharedSchema(properties object) object {
	var one []object
	for _, n := range networks() {
		properties = append(properties, member{n.name, networkSchema(n)})
		alone := requires(n.name)
		if n.name == switchKey { // with nat it is no other network
			alone = append(alone, member{"not", requires(natKey)})
		}
		one = append(one, alone)
	}
	own := object{{"not", object{{"anyOf", one}}}, {"properties", object{{guestsKey, object{{"items", object{{"anyOf", one}}}}}}}}
	return object{
		{"properties", properties}, {"additionalProperties", false},
		{"required", []string{guestsKey}}, {"oneOf", append(one, own)},
	}
}

func requires(name string) object { return object{{"required", []string{name}}} }

// networkSchema describes a network.
func networkSchema(n network) object {
	return object{
		{"description", n.about}, {"type", []string{"object", "null"}},
		{"properties", propertiesOf(n.keys)}, {"additionalProperties", false},
	}
}

func (l *Language) guestsSchema() object {
	properties := propertiesOf(append(guestKeys()[:2:2], ownKeys()[0], ownKeys()[2], linkKey()))
	if l != nil {
		properties = append(propertiesOf(ownKeys()), l.properties()...)
	}
	for _, n := range networks() {
		n = ownNetwork(n)
		n.about += " This one is the guest's own."
		schema := networkSchema(n)
		switch n.name {
		case tapKey:
			device := guestKeys()[2]
			schema = object{{"description", device.about + " As an object, it has a network of its own."},
				{"oneOf", []object{device.value.schema(), append(object{{"type", "object"}, {"required", []string{deviceName}}}, schema[2:]...)}}}
		case switchKey:
			schema = object{{"description", n.about + " As a text, it is the name of the switch."},
				{"oneOf", []object{nameKeyOf(n).value.schema(), append(object{{"type", []string{"object", "null"}}}, schema[2:]...)}}}
		}
		properties = append(properties, member{n.name, schema})
	}
	guest := object{
		{"type", "object"}, {"properties", properties}, {"additionalProperties", false},
	}
	if l == nil {
		guest = append(guest, member{"oneOf", []object{requires(socketName), requires(fdName)}})
	} else {
		guest = append(guest, requires(nameName)...)
	}
	return object{
		{"description", "The guests, in order: of those that share a NAT, the first is .15, the second .16, and so on."},
		{"type", "array"}, {"items", guest}, {"minItems", 1}, {"maxItems", maxItems},
	}
}

// propertiesOf describes the keys of a table, with the unit, the default, and whether a reload can change them.
func propertiesOf(keys []key) (properties object) {
	for i := range keys {
		k := &keys[i]
		o := object{{"description", k.about + remarks(k)}}
		properties = append(properties, member{k.name, append(o, k.value.schema()...)})
	}
	return properties
}

// remarks are what the fields of a key say of themselves.
func remarks(k *key) string {
	var parts []string
	for _, f := range daemon.Fields() {
		if len(k.fields) == 0 || f.Path != k.fields[0] {
			continue
		}
		if f.Default != "" {
			parts = append(parts, "Default: "+f.Default+".")
		}
		if !f.Live {
			parts = append(parts, "A reload cannot change it: "+f.Reason+".")
		}
	}
	return strings.TrimRight(" "+strings.Join(parts, " "), " ")
}
