// Package filter is the one language in which audit records are chosen: for tail, query, export, reports and searches.
//
// A filter is a CEL expression over the fields of a record (see [Fields]) that is true of the records it chooses:
//
//	app == "payroll" && effect != "allow" && time >= "2026-11-01"
//	user == "alice@corp.example" && "admins" in groups
//	type == "control" && code in ["sign_in_failed", "sign_out"]
//
// Expressions are checked when they are compiled: a field that does not exist or a comparison of unlike types is an
// *Error with its place. They read one record, have no side effects, and their cost is bounded. Conjunctions of plain
// comparisons, which most filters are, run without CEL.
package filter

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"sallyport/audit"
)

// Filter chooses records. It is immutable but for its count of failures, and may be used from several goroutines.
type Filter struct {
	text   string
	parts  []part // all must hold
	bounds Bounds
	exact  bool // whatever meets bounds is chosen

	needles [][]byte // what the JSON of every chosen record contains

	failures atomic.Uint64
	failure  atomic.Pointer[error]
}

// part is one member of the conjunction that a filter is.
type part struct {
	native predicate // nil where only CEL can tell
	cel    *program
}

// Matches reports whether the filter chooses a record. A record on which the expression fails, such as groups[3] of a
// person in two groups, is not chosen; see [Filter.Failures].
func (f *Filter) Matches(r *audit.Record) bool {
	return f.matches(&facts{record: r})
}

// MatchesRaw is Matches for the JSON of a record as it is stored, without decoding more of it than the filter asks for. A
// filter that chooses everything does not look at it.
func (f *Filter) MatchesRaw(raw []byte) bool {
	if len(f.parts) == 0 {
		return true
	}
	for _, needle := range f.needles {
		if !bytes.Contains(raw, needle) {
			return false
		}
	}
	x, ok := shallow(string(raw))
	return ok && f.matches(x)
}

func (f *Filter) matches(x *facts) bool {
	for i := range f.parts {
		if p := &f.parts[i]; p.native != nil && !p.native(x) {
			return false
		}
	}
	for i := range f.parts {
		if p := &f.parts[i]; p.native == nil {
			ok, err := p.cel.eval(x)
			if err != nil {
				f.failed(err)
			}
			if !ok {
				return false
			}
		}
	}
	return true
}

func (f *Filter) failed(err error) {
	f.failures.Add(1)
	f.failure.CompareAndSwap(nil, &err)
}

// Failures is on how many records the expression failed so far, and how it did on one of them: whoever prints a result
// should say so.
func (f *Filter) Failures() (n uint64, err error) {
	if p := f.failure.Load(); p != nil {
		err = *p
	}
	return f.failures.Load(), err
}

// String is the expression. Compiling it again gives an equal filter.
func (f *Filter) String() string { return f.text }

// And is the filter that chooses what all of these choose. Nil ones are left out; of none it chooses everything. It fails
// where the expressions are too long together.
func And(filters ...*Filter) (*Filter, error) {
	all := everything()
	var texts []string
	for _, f := range filters {
		if f == nil || len(f.parts) == 0 {
			continue
		}
		all.parts = append(all.parts, f.parts...)
		texts = append(texts, f.text)
		all.exact = all.exact && f.exact && !conflict(all.bounds, f.bounds)
		all.bounds = all.bounds.and(f.bounds)
	}
	all.needles = all.bounds.needles()
	switch len(texts) {
	case 0:
	case 1:
		all.text = texts[0]
	default:
		all.text = "(" + strings.Join(texts, ") && (") + ")"
	}
	if n := utf8.RuneCountInString(all.text); n > maxExpression {
		return nil, fmt.Errorf("filters of %d characters together, more than %d", n, maxExpression)
	}
	return all, nil
}

// everything is the filter that chooses all records.
func everything() *Filter { return &Filter{text: "true", exact: true} }
