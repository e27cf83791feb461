package passtopt

import (
	"fmt"
	"slices"
	"strings"
)

// Fault is why a command line is refused.
type Fault struct {
	Text  string
	Usage bool // the words are no options: the list of all of them may help
}

func (f *Fault) Error() string { return f.Text }

func faultf(format string, args ...any) error { return &Fault{Text: fmt.Sprintf(format, args...)} }

// option is one that there is, by its names.
type option struct {
	long  string
	short byte // 0 for none
	value bool // it has one
	set   func(o *Options, value string) error
}

// scanner takes options from a command line, as getopt_long(3) does with a "+": they end with the first word that is none.
type scanner struct {
	table []option
	words []string
}

// next returns the next option with its value, nil behind the last one.
func (s *scanner) next() (found *option, value string, err error) {
	if len(s.words) == 0 {
		return nil, "", nil
	}
	word := s.words[0]
	switch {
	case word == "--":
		s.words = s.words[1:]
		return nil, "", nil
	case strings.HasPrefix(word, "--"):
		s.words = s.words[1:]
		return s.long(word[2:])
	case len(word) > 1 && word[0] == '-':
		return s.letter(word)
	}
	return nil, "", nil
}

// long reads the rest of a word behind two dashes: a name or the beginning of one, and a value behind "=".
func (s *scanner) long(text string) (*option, string, error) {
	name, value, has := strings.Cut(text, "=")
	found, err := s.named(name)
	switch {
	case err != nil:
		return nil, "", err
	case !found.value && has:
		return nil, "", &Fault{fmt.Sprintf("option '--%s' doesn't allow an argument", found.long), true}
	case !found.value || has:
		return found, value, nil
	case len(s.words) == 0:
		return nil, "", &Fault{fmt.Sprintf("option '--%s' requires an argument", found.long), true}
	}
	value, s.words = s.words[0], s.words[1:]
	return found, value, nil
}

// named returns the option of a name, or of the beginning of one that is clear. Two names of one option are clear.
func (s *scanner) named(name string) (*option, error) {
	var like []*option
	for i := range s.table {
		o := &s.table[i]
		switch {
		case o.long == name:
			return o, nil
		case o.long != "" && strings.HasPrefix(o.long, name):
			like = append(like, o)
		}
	}
	switch {
	case len(like) == 0:
		return nil, &Fault{fmt.Sprintf("unrecognized option '--%s'", name), true}
	case slices.ContainsFunc(like, func(o *option) bool { return o.short == 0 || o.short != like[0].short }) && len(like) > 1:
		var names []string
		for _, o := range like {
			names = append(names, "'--"+o.long+"'")
		}
		return nil, &Fault{fmt.Sprintf("option '--%s' is ambiguous; possibilities: %s", name, strings.Join(names, " ")), true}
	}
	return like[0], nil
}

// letter takes the first letter of a word with a dash. The rest of the word is its value, or more letters.
func (s *scanner) letter(word string) (*option, string, error) {
	i := slices.IndexFunc(s.table, func(o option) bool { return o.short == word[1] })
	if i < 0 {
		return nil, "", &Fault{fmt.Sprintf("invalid option -- '%c'", word[1]), true}
	}
	o, rest := &s.table[i], word[2:]
	s.words = s.words[1:]
	switch {
	case !o.value && rest != "":
		s.words = append([]string{"-" + rest}, s.words...)
		return o, "", nil
	case !o.value || rest != "":
		return o, rest, nil
	case len(s.words) == 0:
		return nil, "", &Fault{fmt.Sprintf("option requires an argument -- '%c'", word[1]), true}
	}
	value := s.words[0]
	s.words = s.words[1:]
	return o, value, nil
}
