package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// Filter chooses records; the zero value chooses all of them. A record must meet every field that is set.
type Filter struct {
	From      time.Time // at this time or later
	To        time.Time // before this time
	FromSeq   uint64    // this seq or later
	ToSeq     uint64    // before this seq; 0 sets no end
	User      string    // the subject or actor: id, or e-mail address or account name in any case
	App       string
	Effect    Effect
	Reason    string
	RequestID string
	Type      Type
	Code      string

	// Where is asked last, of records that meet all the rest; nil asks nothing. It keeps no record that it refuses.
	Where func(*Record) bool

	// Last keeps only the last so many of the records there are at the start; Follow then goes on with new ones.
	// 0 keeps all, a negative number none.
	Last int
}

// matcher applies a filter to lines.
type matcher struct {
	filter  Filter
	needles [][]byte // what a matching line contains, so that most others are not decoded
}

func newMatcher(f Filter) *matcher {
	m := &matcher{filter: f}
	m.need(`"app":`, f.App)
	m.need(`"effect":`, string(f.Effect))
	m.need(`"reason":`, f.Reason)
	m.need(`"request_id":`, f.RequestID)
	m.need(`"type":`, string(f.Type))
	m.need(`"code":`, f.Code)
	return m
}

func (m *matcher) need(name, value string) {
	if value != "" {
		m.needles = append(m.needles, appendString([]byte(name), value))
	}
}

// everything reports whether every record matches.
func (m *matcher) everything() bool {
	f := &m.filter
	return len(m.needles) == 0 && f.From.IsZero() && f.To.IsZero() && f.FromSeq == 0 && f.ToSeq == 0 && f.User == "" && f.Where == nil
}

// maybe is a cheap look at a line: false means that its record does not match.
func (m *matcher) maybe(line []byte) bool {
	for _, n := range m.needles {
		if !bytes.Contains(line, n) {
			return false
		}
	}
	return m.inTime(line)
}

// inTime is a cheap look at a line's time; true also where it cannot tell.
func (m *matcher) inTime(line []byte) bool {
	if m.filter.From.IsZero() && m.filter.To.IsZero() {
		return true
	}
	// No string has an unescaped quote in it, and no field before this one is an object with a time.
	_, rest, _ := bytes.Cut(line, timeField)
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	at, err := time.Parse(time.RFC3339Nano, string(text))
	return err != nil || !m.outside(at)
}

var timeField = []byte(`"time":"`)

// outside reports whether a time is not one that the filter wants.
func (m *matcher) outside(at time.Time) bool {
	return !m.filter.From.IsZero() && at.Before(m.filter.From) || !m.filter.To.IsZero() && !at.Before(m.filter.To)
}

func (m *matcher) matches(r *Record) bool {
	f := &m.filter
	switch {
	case r.Seq < f.FromSeq:
	case f.ToSeq > 0 && r.Seq >= f.ToSeq:
	case m.outside(r.Time):
	case f.App != "" && r.App != f.App:
	case f.Effect != "" && r.Effect != f.Effect:
	case f.Reason != "" && r.Reason != f.Reason:
	case f.RequestID != "" && r.RequestID != f.RequestID:
	case f.Type != "" && r.Type != f.Type:
	case f.Code != "" && r.Code != f.Code:
	case f.User != "" && !concerns(r, f.User):
	case f.Where != nil && !f.Where(r):
	default:
		return true
	}
	return false
}

// concerns reports whether a record is about a decision on that user, or about what that user did.
func concerns(r *Record, user string) bool {
	if r.Actor != nil && (r.Actor.ID == user || strings.EqualFold(r.Actor.Name, user)) {
		return true
	}
	if len(r.Input) == 0 {
		return false
	}
	var input struct {
		Subject struct {
			ID    string `json:"id"`
			Email string `json:"email"`
		} `json:"subject"`
	}
	// An input that is no object, or whose subject is of another shape, is about nobody.
	if json.Unmarshal(r.Input, &input) != nil {
		return false
	}
	return input.Subject.ID == user || strings.EqualFold(input.Subject.Email, user)
}
