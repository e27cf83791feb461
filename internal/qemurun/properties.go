package qemurun

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// property is one of an option's value, as in share=on.
type property struct{ key, value string }

// properties are those of an option's value, in their order. A key can be there several times: see all.
type properties []property

// readProperties reads a value in either of QEMU's forms. What has no key in the first place of a list is that of implied.
func readProperties(text, implied string) (properties, error) {
	if strings.HasPrefix(text, "{") {
		return readJSON(text)
	}
	var list properties
	for i, item := range cutCommas(text) {
		key, value, found := strings.Cut(item, "=")
		switch {
		case !found && i == 0:
			key, value = implied, item
		case !found: // a switch: QEMU's old form
			value = "on"
			if off, is := strings.CutPrefix(key, "no"); is {
				key, value = off, "off"
			}
		}
		list = append(list, property{key, value})
	}
	return list, nil
}

// cutCommas takes a list apart. A comma that is doubled belongs to an item.
func cutCommas(text string) (items []string) {
	const comma = "\x00" // a word of a command line has no such byte
	for item := range strings.SplitSeq(strings.ReplaceAll(text, ",,", comma), ",") {
		items = append(items, strings.ReplaceAll(item, comma, ","))
	}
	return items
}

// readJSON reads a value that is an object. An item of a list is a text, or an object with a text under "str".
func readJSON(text string) (list properties, err error) {
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	for key, value := range object {
		items, ok := value.([]any)
		if !ok {
			items = []any{value}
		}
		for _, item := range items {
			list = append(list, property{key, textOf(item)})
		}
	}
	slices.SortStableFunc(list, func(a, b property) int { return strings.Compare(a.key, b.key) }) // a map has no order
	return list, nil
}

// textOf writes a value of JSON as a list of properties has it.
func textOf(value any) string {
	switch v := value.(type) {
	case bool:
		return onOff(v)
	case map[string]any:
		return fmt.Sprint(v["str"])
	}
	return fmt.Sprint(value)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// get returns the value of a key, "" if it is not there. The last one counts.
func (p properties) get(key string) (value string) {
	for _, one := range p {
		if one.key == key {
			value = one.value
		}
	}
	return value
}

// with returns a value of an option with properties more, in the form that it has. Those that it has already stay.
func with(text string, more ...property) (string, error) {
	has, err := readProperties(text, "")
	if err != nil {
		return "", err
	}
	more = slices.DeleteFunc(more, func(p property) bool {
		return slices.ContainsFunc(has, func(old property) bool { return old.key == p.key })
	})
	if strings.HasPrefix(text, "{") {
		return withJSON(text, more), nil
	}
	for _, p := range more {
		text += "," + p.key + "=" + strings.ReplaceAll(p.value, ",", ",,")
	}
	return text, nil
}

// withJSON is with for JSON, which was read. What is added is a number, a switch or a text.
func withJSON(text string, more []property) string {
	body := strings.TrimSuffix(strings.TrimSpace(text), "}")
	for _, p := range more {
		value := p.value
		switch value {
		case "on":
			value = "true"
		case "off":
			value = "false"
		default:
			if _, err := strconv.Atoi(value); err != nil {
				value = strconv.Quote(value)
			}
		}
		body += fmt.Sprintf(", %q: %s", p.key, value)
	}
	return body + "}"
}

// renamed returns properties in which a key has another name.
func (p properties) renamed(old, key string) properties {
	p = slices.Clone(p)
	for i := range p {
		if p[i].key == old {
			p[i].key = key
		}
	}
	return p
}
