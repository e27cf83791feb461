package daemon

import (
	"fmt"
	"reflect"
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
	both bool // both have the network that the field belongs to, or it belongs to none
}

// differences returns the fields in which two configurations differ. A network that only one of them has differs in all of its
// fields. Lists without elements do not differ, be they nil or not.
func differences(before, after *Config) (all []difference) {
	walk(reflect.TypeFor[Config](), "", nil, func(f reflect.StructField, path string, index []int) {
		was, is := at(before, index), at(after, index)
		both := was.IsValid() && is.IsValid()
		switch {
		case both && same(was, is):
		case was.IsValid() || is.IsValid():
			all = append(all, difference{fieldOf(f, path), both})
		}
	})
	return all
}

// fault returns why the field cannot change while guests are served, nil if it can.
func (d *difference) fault() error {
	reason := d.Reason
	switch {
	case d.Live && d.both:
		return nil
	case d.Live:
		reason = "guests stay with their network"
	}
	return faultf("%s cannot change while guests are served: %s", d.Options[0], reason)
}

// Compare returns the fields in which two configurations differ. The error tells of each that cannot change while guests
// are served. A network that only one of them has differs in all of its fields.
func Compare(before, after *Config) (changed []Field, err error) {
	var errs *multierror.Error
	for _, d := range differences(before, after) {
		changed, errs = append(changed, d.Field), multierror.Append(errs, d.fault())
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

func (f Field) String() string {
	change := "fixed"
	if f.Live {
		change = "live"
	}
	return fmt.Sprintf("%s (%s): %s", f.Path, change, f.Reason)
}
