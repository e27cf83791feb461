package agent

import (
	"fmt"
	"strconv"
)

// Command does one request. It may report events before it returns its result; both are anything that JSON can express.
type Command func(args Arguments, event func(v any)) (result any, err error)

// Arguments are the fields of a request behind the command.
type Arguments []string

// Text returns argument i.
func (a Arguments) Text(i int) (string, error) {
	if i >= len(a) {
		return "", fmt.Errorf("argument %d is missing", i+1)
	}
	return a[i], nil
}

// Number returns argument i as a number.
func (a Arguments) Number(i int) (int, error) {
	s, err := a.Text(i)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}

// Optional returns argument i as a number, or a default.
func (a Arguments) Optional(i, otherwise int) (int, error) {
	if i >= len(a) {
		return otherwise, nil
	}
	return a.Number(i)
}
