package proto

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Marker begins every line that the guest's /init means for the host.
const Marker = "@vring"

// Kind tells what an answer says about its request.
type Kind string

// The kinds of answers.
const (
	Event Kind = "event" // something happened; the command goes on
	OK    Kind = "ok"    // the command is done, with this result
	Error Kind = "error" // the command failed; the payload is a JSON string
)

// Request is one command for the guest.
type Request struct {
	ID      int
	Command string
	Args    []string // without white space
}

// String returns the request as a line, without its end.
func (r Request) String() string {
	return strings.Join(append([]string{strconv.Itoa(r.ID), r.Command}, r.Args...), " ")
}

// ParseRequest is the inverse of Request.String.
func ParseRequest(line string) (Request, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return Request{}, fmt.Errorf("no request: %q", line)
	}
	id, err := strconv.Atoi(fields[0])
	if err != nil {
		return Request{}, fmt.Errorf("no identifier: %q", line)
	}
	return Request{ID: id, Command: fields[1], Args: fields[2:]}, nil
}

// Answer is one line from the guest.
type Answer struct {
	ID      int
	Kind    Kind
	Payload json.RawMessage
}

// NewAnswer encodes v as the payload of an answer. A v that JSON cannot express becomes an error answer.
func NewAnswer(id int, kind Kind, v any) Answer {
	payload, err := json.Marshal(v)
	if err != nil {
		return NewAnswer(id, Error, err.Error())
	}
	return Answer{ID: id, Kind: kind, Payload: payload}
}

// String returns the answer as a line, without its end.
func (a Answer) String() string {
	return fmt.Sprintf("%s %d %s %s", Marker, a.ID, a.Kind, a.Payload)
}

// ParseAnswer finds an answer in a console line; firmware and kernel may have written something before it. ok is false
// if there is none.
func ParseAnswer(line string) (a Answer, ok bool) {
	_, rest, found := strings.Cut(line, Marker+" ")
	if !found {
		return Answer{}, false
	}
	fields := strings.SplitN(strings.TrimSpace(rest), " ", 3)
	if len(fields) != 3 {
		return Answer{}, false
	}
	id, err := strconv.Atoi(fields[0])
	if err != nil || !json.Valid([]byte(fields[2])) {
		return Answer{}, false
	}
	return Answer{ID: id, Kind: Kind(fields[1]), Payload: json.RawMessage(fields[2])}, true
}
