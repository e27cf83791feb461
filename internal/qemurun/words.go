package qemurun

import (
	"slices"
	"strings"
)

// option is one of a command line.
type option struct {
	name  string   // without dashes; "" for an image of a disk, which has none
	value string   // "" if it has none
	words []string // as they are written
}

// withoutValue are the options that have no value, of QEMU 7.2 to 11.1. All others have one.
var withoutValue = []string{
	"h", "help", "version", "mem-prealloc", "audio-help", "snapshot", "usb", "nographic", "portrait", "full-screen", "win2k-hack",
	"no-fd-bootchk", "no-acpi", "no-hpet", "singlestep", "preconfig", "S", "s", "enable-kvm", "xen-attach", "xen-domid-restrict", "no-reboot",
	"no-shutdown", "daemonize", "only-migratable", "nodefaults", "no-user-config", "nouserconfig", "enable-sync-profile", "perfmap",
	"jitdump", "curses", "semihosting", "old-param", "no-frame", "alt-grab", "ctrl-grab", "no-quit", "sdl", "enable-fips",
}

// split takes a command line apart, without the name of the program.
func split(words []string) (options []option) {
	for len(words) > 0 {
		o, n := option{value: words[0]}, 1
		if name, ok := optionName(words[0]); ok {
			o = option{name: name}
			if len(words) > 1 && !slices.Contains(withoutValue, name) {
				o.value, n = words[1], 2
			}
		}
		o.words = words[:n:n]
		options, words = append(options, o), words[n:]
	}
	return options
}

// optionName returns the name of an option. QEMU takes one dash and two.
func optionName(word string) (name string, ok bool) {
	name, ok = strings.CutPrefix(word, "-")
	name = strings.TrimPrefix(name, "-")
	return name, ok && name != ""
}

// written is an option as the rewriter writes it.
func written(name, value string) option {
	return option{name: name, value: value, words: []string{"-" + name, value}}
}

// join puts a command line together again.
func join(options []option) (words []string) {
	for _, o := range options {
		words = append(words, o.words...)
	}
	return words
}
