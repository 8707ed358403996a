package decisions

import (
	"bytes"
	"time"
)

// kind is what a line is to this package.
type kind uint8

const (
	other kind = iota
	decided
	again
)

var (
	typeField    = []byte(`"type":"`)
	timeField    = []byte(`"time":"`)
	decidedValue = []byte(`decision"`)
	againValue   = []byte(`reevaluated"`)
)

// look tells a line's kind and time from its first fields, of which there is one spelling, without reading it all.
func look(line []byte) (kind, []byte) {
	at := bytes.Index(line, typeField)
	if at < 0 {
		return other, nil
	}
	rest := line[at+len(typeField):]
	is := other
	switch {
	case bytes.HasPrefix(rest, decidedValue):
		is = decided
	case bytes.HasPrefix(rest, againValue):
		is = again
	default:
		return other, nil
	}
	if at = bytes.Index(rest, timeField); at < 0 {
		return is, nil
	}
	text := rest[at+len(timeField):]
	return is, text[:max(0, bytes.IndexByte(text, '"'))]
}

// timeFormat is that of records: times sort as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// span is a query's times as text.
type span struct{ from, to string }

func (q *Query) span() (s span) {
	if !q.From.IsZero() {
		s.from = q.From.UTC().Format(timeFormat)
	}
	if !q.To.IsZero() {
		s.to = q.To.UTC().Format(timeFormat)
	}
	return s
}

// holds compares a line's time with the span. What is no time is held: reading the record says what is wrong.
func (s *span) holds(at []byte) bool {
	if len(at) != len(timeFormat) {
		return true
	}
	return string(at) >= s.from && (s.to == "" || string(at) < s.to)
}

var idField = []byte(`{"v":1,"id":"`)

// idOf is the id at the begin of a line, or nil.
func idOf(line []byte) []byte {
	if !bytes.HasPrefix(line, idField) {
		return nil
	}
	rest := line[len(idField):]
	return rest[:max(0, bytes.IndexByte(rest, '"'))]
}

// parts are the members of a record that matter, as they are spelled.
type parts struct {
	id, time, app, effect, reason, input, policy, decision, detail []byte
}

// split takes a line apart; false where it is not well-formed. The input, most of a line, is not looked into where its end
// can be told without: the digest that follows it is named once.
func (p *parts) split(line []byte) bool {
	*p = parts{}
	s := scan{text: line, inputEnd: inputEnd(line)}
	for s.next() {
		switch string(s.name) {
		case "id":
			p.id = s.value
		case "time":
			p.time = s.value
		case "app":
			p.app = s.value
		case "effect":
			p.effect = s.value
		case "reason":
			p.reason = s.value
		case "input":
			p.input = s.value
		case "policy":
			p.policy = s.value
		case "decision":
			p.decision = s.value
		case "detail":
			p.detail = s.value
		}
	}
	return s.done()
}

// What follows every input. It is looked for by its second part, which begins with a rare byte: that is faster.
var (
	digestName = []byte(`,"input`)
	digestRest = []byte(`_digest":"sha256:`)
)

// inputEnd is where the input ends; -1 when it takes reading the input to tell.
func inputEnd(line []byte) int {
	at := bytes.Index(line, digestRest)
	if at < 0 || bytes.Contains(line[at+1:], digestRest) {
		return -1
	}
	before, named := bytes.CutSuffix(line[:at], digestName)
	if !named || !bytes.HasSuffix(before, []byte{'}'}) {
		return -1
	}
	return len(before)
}

// plain is what a string says that has no escapes; false for others.
func plain(value []byte) ([]byte, bool) {
	if len(value) == 0 {
		return nil, true
	}
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

// scan goes through the members of an object in the form that records have, which has no white space.
type scan struct {
	text        []byte
	at          int
	name, value []byte
	inputEnd    int // of the member input, if it is known; else 0 or less
	ended       bool
}

func (s *scan) next() bool {
	start := byte(',')
	if s.at == 0 {
		start = '{'
	}
	if s.at >= len(s.text) || s.text[s.at] != start {
		s.ended = s.at == len(s.text)-1 && s.text[s.at] == '}'
		return false
	}
	name := s.at + 1
	colon := stringEnd(s.text, name)
	if colon < 0 || colon >= len(s.text) || s.text[colon] != ':' {
		return false
	}
	s.name = s.text[name+1 : colon-1]
	end := s.inputEnd
	if end <= colon || string(s.name) != "input" {
		end = valueEnd(s.text, colon+1)
	}
	if end < 0 {
		return false
	}
	s.value, s.at = s.text[colon+1:end], end
	return true
}

// done reports whether the text ended with the object.
func (s *scan) done() bool { return s.ended }

// valueEnd is the index behind the value that begins at i, or -1.
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
	for i < len(text) && text[i] != ',' && text[i] != '}' && text[i] != ']' {
		i++
	}
	return i
}

// stringEnd is the index behind the string that begins at i, or -1.
func stringEnd(text []byte, i int) int {
	if i >= len(text) || text[i] != '"' {
		return -1
	}
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

// at reads a record's time.
func at(value []byte) (time.Time, bool) {
	text, ok := plain(value)
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(text))
	return t, err == nil
}
