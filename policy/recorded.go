package policy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Answer is Rederive for an input that was read already, or made up: the answer is remembered where it may be, and only
// the longest configurable deadline bounds it.
func (e *Engine) Answer(ctx context.Context, in *Input) *Verdict {
	return e.answer(ctx, in, maxDeadline)
}

// ParseChanged reads the input of a record and changes it by a JSON Merge Patch (RFC 7396), as Rederive does.
func ParseChanged(inputJSON, changed []byte) (*Input, error) {
	if _, err := ParseInput(inputJSON); err != nil {
		return nil, err
	}
	return patched(inputJSON, changed)
}

// Recurring is the projection without the fields that differ in every request, in which requests can agree.
func (p *Projection) Recurring() *Projection {
	return &Projection{slices.DeleteFunc(slices.Clone(p.fields), field.volatile)}
}

// FieldsNamed is the projection onto fields that are named by their places under input, such as subject.groups.
func FieldsNamed(paths ...string) (*Projection, error) {
	var set fieldSet
	for _, path := range paths {
		f := slices.Index(fieldPaths[:], path)
		if f < 0 {
			return nil, fmt.Errorf("there is no input field %q", path)
		}
		set[f] = true
	}
	return &Projection{set.list()}, nil
}

// AppendRecorded appends the projection of a recorded input to b, straight from its JSON: two inputs have the same one
// exactly if they agree in the fields. It is another form than that of Append.
//
// The JSON must be what AppendJSON writes, in which equal values have equal spellings. A field that is unknown, repeated
// or out of its place is an error. That values are of their types is not checked; ParseInput does that.
func (p *Projection) AppendRecorded(b, inputJSON []byte) ([]byte, error) {
	var wanted fieldSet
	for _, f := range p.fields {
		wanted[f] = true
	}
	s := recordScan{text: inputJSON}
	for at := 0; at < len(recordedForm); at++ {
		step := &recordedForm[at]
		switch {
		case step.closes:
			s.close()
		case step.field < 0:
			if !s.open(step.key) {
				b = step.absent(b, &wanted)
				at = step.end
			}
		case !s.key(step.key):
			if wanted[step.field] {
				b = append(b, fieldAbsent)
			}
		default:
			value := s.value()
			if wanted[step.field] {
				b = binary.AppendUvarint(append(b, fieldPresent), uint64(len(value)))
				b = append(b, value...)
			}
		}
		if s.broken {
			return nil, errNotRecorded
		}
	}
	if s.at != len(inputJSON) {
		return nil, errNotRecorded
	}
	return b, nil
}

// RecordedSubject is the subject.id of a recorded input, as JSON spells it; empty for a stranger's.
func RecordedSubject(inputJSON []byte) string {
	s := recordScan{text: inputJSON}
	if s.open("") && s.open(`"subject":`) && s.key(`"type":`) && s.value() != nil && s.key(`"id":`) {
		return string(s.value())
	}
	return ""
}

var errNotRecorded = errors.New("reading policy input: an unknown, repeated or misplaced field")

// What stands before a field in a recorded projection.
const (
	parentAbsent byte = iota // the document that the field is a part of
	fieldAbsent
	fieldPresent // its length and its JSON follow
)

// recordedStep is one step through the form of an input: into a document, to a field, or out of a document.
type recordedStep struct {
	key    string // with quotes and colon; empty for the input itself
	field  int    // -1 for a document
	closes bool
	end    int // of a document: the step that closes it
	first  int // of a document: its fields, with those of documents in it
	last   int
}

// absent appends what the fields of a document that is not there amount to.
func (s *recordedStep) absent(b []byte, wanted *fieldSet) []byte {
	for f := s.first; f <= s.last; f++ {
		if wanted[f] {
			b = append(b, parentAbsent)
		}
	}
	return b
}

// recordedForm is the form of every input: fieldPaths is in its order.
var recordedForm = func() (form []recordedStep) {
	var open []int // steps of the documents around
	var names []string
	leave := func(depth int, last int) {
		for len(open) > depth {
			document := &form[open[len(open)-1]]
			document.end, document.last = len(form), last
			form = append(form, recordedStep{closes: true})
			open, names = open[:len(open)-1], names[:max(0, len(names)-1)]
		}
	}
	enter := func(key string, first int) {
		open = append(open, len(form))
		form = append(form, recordedStep{key: key, field: -1, first: first})
	}
	enter("", 0)
	for f, path := range fieldPaths {
		parts := strings.Split(path, ".")
		documents := parts[:len(parts)-1]
		shared := 0
		for shared < min(len(names), len(documents)) && names[shared] == documents[shared] {
			shared++
		}
		leave(shared+1, f-1)
		for _, name := range documents[shared:] {
			enter(`"`+name+`":`, f)
			names = append(names, name)
		}
		form = append(form, recordedStep{key: `"` + parts[len(parts)-1] + `":`, field: f})
	}
	leave(0, int(fields)-1)
	return form
}()

// recordScan reads a recorded input from the left.
type recordScan struct {
	text   []byte // none after a failure
	at     int
	later  bool // a member was read, so that a comma comes before the next
	broken bool
}

// fail ends the reading: nothing comes next.
func (s *recordScan) fail() { s.text, s.broken = s.text[:0], true }

// skip passes over a token, if that is what comes next.
func (s *recordScan) skip(token string) bool {
	if len(s.text)-s.at < len(token) || string(s.text[s.at:s.at+len(token)]) != token {
		return false
	}
	s.at += len(token)
	return true
}

// want passes over a token that must come next.
func (s *recordScan) want(token string) {
	if !s.skip(token) {
		s.fail()
	}
}

// key passes over the name of a member, if that is what comes next.
func (s *recordScan) key(key string) bool {
	at := s.at
	if s.later {
		if at >= len(s.text) || s.text[at] != ',' {
			return false
		}
		at++
	}
	if len(s.text)-at < len(key) || string(s.text[at:at+len(key)]) != key {
		return false
	}
	s.at, s.later = at+len(key), true
	return true
}

// open enters the document that comes next, if it has that name.
func (s *recordScan) open(key string) bool {
	if key != "" && !s.key(key) {
		return false
	}
	s.want("{")
	s.later = false
	return true
}

func (s *recordScan) close() {
	s.want("}")
	s.later = true
}

// value passes over a value and returns it.
func (s *recordScan) value() []byte {
	end := valueEnd(s.text, s.at)
	if end < 0 {
		s.fail()
		return nil
	}
	value := s.text[s.at:end]
	s.at = end
	return value
}

// valueEnd is the index behind the JSON value that begins at i, or -1 where it does not end.
func valueEnd(text []byte, i int) int {
	if i >= len(text) {
		return -1
	}
	switch text[i] {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
		return nestedEnd(text, i)
	}
	start := i
	for i < len(text) && text[i] != ',' && text[i] != '}' && text[i] != ']' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

func nestedEnd(text []byte, i int) int {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			if i = stringEnd(text, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}
