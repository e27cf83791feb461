package daemon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
)

// Field tells of one field of a Config what its tags say:
//
//	option:"mtu"         names by which users write it, separated by commas
//	unit:"bytes"         of numbers
//	default:"1500"       what it is if nobody says anything; none is the type's zero value
//	live:"reason"        it may change while guests are served, and why nothing that a guest holds is in the way
//	fixed:"reason"       it may not, and why
//
// What is live can be adopted between two turns of a guest's threads: [Daemon.Change] makes such changes, and [Compare] tells whether
// a change needs a new process.
type Field struct {
	Path    string // as in NAT.MTU
	Options []Option
	Unit    string
	Default string
	Live    bool
	Reason  string // why it is live, or is not
}

// Fields tells of all fields of a Config, in their order.
func Fields() (all []Field) {
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, path string, _ []int) { all = append(all, fieldOf(f, path)) })
	return all
}

// walk calls visit for each field below a struct that has an option, with its path and index.
func walk(in reflect.Type, path string, index []int, visit func(f reflect.StructField, path string, index []int)) {
	for i := range in.NumField() {
		f := in.Field(i)
		at := append(append([]int{}, index...), i)
		below := f.Type
		if below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		switch _, isOption := f.Tag.Lookup("option"); {
		case isOption:
			visit(f, path+f.Name, at)
		case below.Kind() == reflect.Struct:
			walk(below, path+f.Name+".", at, visit)
		}
	}
}

// fieldOf reads the tags of a field.
func fieldOf(f reflect.StructField, path string) Field {
	field := Field{Path: path, Unit: f.Tag.Get("unit"), Default: f.Tag.Get("default")}
	for name := range strings.SplitSeq(f.Tag.Get("option"), ",") {
		field.Options = append(field.Options, Option(name))
	}
	field.Reason, field.Live = f.Tag.Lookup("live")
	if !field.Live {
		field.Reason = f.Tag.Get("fixed")
	}
	return field
}

// difference is a field in which two configurations differ.
type difference struct {
	Field
	own  string // the socket of the guest whose own network has the field; "" for any other field
	both bool   // both have the network that the field belongs to, or it belongs to none
	// For Guests, which differs once for each guest that only one of them has, or that has another name in both:
	added, removed *Guest
	again          bool // added has the socket of another one
}

// guestsPath is the field that has guests with a network of their own.
const guestsPath = "Guests"

// differences returns the fields in which two configurations differ. A network that only one of them has differs in all of its
// fields. Lists without elements do not differ, be they nil or not. Guests that both have differ in the fields of their networks.
func differences(before, after *Config) (all []difference) {
	var guests Field
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, path string, index []int) {
		if path == guestsPath {
			guests = fieldOf(f, path)
			return
		}
		was, is := at(before, index), at(after, index)
		both := was.IsValid() && is.IsValid()
		switch {
		case both && same(was, is):
		case was.IsValid() || is.IsValid():
			all = append(all, difference{Field: fieldOf(f, path), both: both})
		}
	})
	return append(all, guestDifferences(guests, before, after)...)
}

// guestDifferences are those of guests with a network of their own, which have the same socket in both configurations.
func guestDifferences(field Field, before, after *Config) (all []difference) {
	for i := range before.Guests {
		was := &before.Guests[i]
		is := after.guest(was.SocketPath)
		switch {
		case is == nil:
			all = append(all, difference{Field: field, both: true, removed: was})
			continue
		case was.Name != is.Name || was.frontEnd(before.FrontEnds.Kind) != is.frontEnd(before.FrontEnds.Kind):
			all = append(all, difference{Field: field, both: true, removed: was, added: is})
		}
		for _, d := range differences(was.asConfig(), is.asConfig()) {
			d.own = was.SocketPath
			all = append(all, d)
		}
	}
	for i := range after.Guests {
		is := &after.Guests[i]
		again := after.guest(is.SocketPath) != is
		if again || before.guest(is.SocketPath) == nil {
			all = append(all, difference{Field: field, both: true, added: is, again: again})
		}
	}
	return all
}

// fault returns why the field cannot change while guests of before are served, nil if it can.
func (d *difference) fault(before *Config) error {
	reason := d.Reason
	switch {
	case d.added != nil && d.removed != nil:
		return faultf("the name of the guest with %s cannot change while it is served, nor how its front end passes frames; remove the guest and add it again", d.added.SocketPath)
	case d.again:
		return twice(d.added.SocketPath)
	case d.added != nil:
		return before.checkLater(d.added)
	case d.Live && d.both:
		return nil
	case d.Live:
		reason = "guests stay with their network"
	}
	if d.own != "" {
		return faultf("%s of the guest with %s cannot change while it is served: %s; remove the guest and add it again", d.Options[0], d.own, reason)
	}
	return faultf("%s cannot change while guests are served: %s", d.Options[0], reason)
}

// Compare returns the fields in which two configurations differ. The error tells of each that cannot change while guests
// are served. A network that only one of them has differs in all of its fields.
func Compare(before, after *Config) (changed []Field, err error) {
	var errs *multierror.Error
	for _, d := range differences(before, after) {
		changed, errs = append(changed, d.Field), multierror.Append(errs, d.fault(before))
	}
	return changed, errs.ErrorOrNil()
}

// at returns a field of a configuration, the zero Value below a network that it does not have.
func at(c *Config, index []int) reflect.Value {
	v, err := reflect.ValueOf(c).Elem().FieldByIndexErr(index)
	if err != nil {
		return reflect.Value{}
	}
	return v
}

// CopyField gives a configuration the value that another one has of a field, which is named by its path. Both have the network that the field
// belongs to, and share what the value refers to.
func CopyField(to, from *Config, path string) {
	walk(reflect.TypeFor[Config](), "", nil, func(_ reflect.StructField, of string, index []int) {
		if of == path {
			at(to, index).Set(at(from, index))
		}
	})
}

func (f Field) String() string {
	change := "fixed"
	if f.Live {
		change = "live"
	}
	return fmt.Sprintf("%s (%s): %s", f.Path, change, f.Reason)
}

// Adopt gives a configuration the fields of another one that have one of some options. Lists become longer: what is in the other one comes first.
func Adopt(to, from *Config, options ...Option) {
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, _ string, index []int) {
		named := slices.ContainsFunc(fieldOf(f, "").Options, func(o Option) bool { return slices.Contains(options, o) })
		was, is := at(to, index), at(from, index)
		switch {
		case !named || !was.IsValid() || !is.IsValid():
		case was.Kind() == reflect.Slice:
			was.Set(detached(reflect.AppendSlice(is, was)))
		default:
			was.Set(detached(is))
		}
	})
}
