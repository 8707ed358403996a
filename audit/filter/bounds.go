package filter

import (
	"maps"
	"math"
	"time"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"sallyport/audit"
)

// Bounds are conditions that every record meets which a filter chooses: what an index can look up. Not every record that
// meets them is chosen.
type Bounds struct {
	From, To       time.Time        // from From on, before To; zero for no bound
	FromSeq, ToSeq uint64           // from FromSeq on, before ToSeq; 0 for no bound
	Equal          map[Field]string // fields of kind Text that have exactly this value
	User           string           // user == this; empty for anybody
}

// Bounds are the filter's.
func (f *Filter) Bounds() Bounds {
	b := f.bounds
	b.Equal = maps.Clone(b.Equal)
	return b
}

// Exact reports whether the filter chooses every record that meets its bounds, so that an index alone can count them.
func (f *Filter) Exact() bool { return f.exact }

// needles are texts that the JSON of a record which meets the bounds contains: plain fields with values that have one
// spelling.
func (b *Bounds) needles() [][]byte {
	var all [][]byte
	for _, name := range [...]Field{"app", "effect", "reason", "request_id", "session", "type", "code"} {
		if value := b.Equal[name]; value != "" && hasOneSpelling(value) {
			all = append(all, []byte(`"`+string(name)+`":"`+value+`"`))
		}
	}
	return all
}

func hasOneSpelling(value string) bool {
	for _, r := range value {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.' {
			return false
		}
	}
	return true
}

// bounds reports whether there is any bound.
func (b *Bounds) bounds() bool {
	return !b.From.IsZero() || !b.To.IsZero() || b.FromSeq != 0 || b.ToSeq != 0 || b.User != "" || len(b.Equal) > 0
}

// conflict reports whether two bounds together demand more than their combination says.
func conflict(a, b Bounds) bool {
	if a.User != "" && b.User != "" && a.User != b.User {
		return true
	}
	for name, value := range a.Equal {
		if other, ok := b.Equal[name]; ok && other != value {
			return true
		}
	}
	return false
}

// isTrue is the expression that holds always.
func isTrue(e celast.Expr) bool {
	value, ok := literal[types.Bool](e)
	return ok && bool(value)
}

// Admits reports whether a record meets the bounds.
func (b Bounds) Admits(r *audit.Record) bool {
	switch {
	case !b.From.IsZero() && r.Time.Before(b.From):
	case !b.To.IsZero() && !r.Time.Before(b.To):
	case r.Seq < b.FromSeq:
	case b.ToSeq != 0 && r.Seq >= b.ToSeq:
	case b.User != "" && !(&facts{record: r}).isUser(b.User):
	default:
		return b.equal(&facts{record: r})
	}
	return false
}

func (b Bounds) equal(x *facts) bool {
	for name, value := range b.Equal {
		if fieldByName()[name].text(x) != value {
			return false
		}
	}
	return true
}

// and narrows bounds by others. Where both want one field or user to have different values, nothing meets both, and the
// first is bound enough.
func (b Bounds) and(other Bounds) Bounds {
	b.From = later(b.From, other.From)
	if b.To.IsZero() || !other.To.IsZero() && other.To.Before(b.To) {
		b.To = other.To
	}
	b.FromSeq = max(b.FromSeq, other.FromSeq)
	if b.ToSeq == 0 || other.ToSeq != 0 && other.ToSeq < b.ToSeq {
		b.ToSeq = other.ToSeq
	}
	if b.User == "" {
		b.User = other.User
	}
	equal := maps.Clone(other.Equal)
	if equal == nil {
		equal = make(map[Field]string)
	}
	maps.Copy(equal, b.Equal)
	b.Equal = equal
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// bounds are what one member of a conjunction demands; the zero value where that is nothing an index knows.
func (n *natives) bounds(e celast.Expr) Bounds {
	if e.Kind() != celast.CallKind || len(e.AsCall().Args()) != 2 || e.AsCall().IsMemberFunction() {
		return Bounds{}
	}
	function, args := e.AsCall().FunctionName(), e.AsCall().Args()
	switch {
	case function == isUserFunction:
		user, _ := literal[types.String](args[1])
		return Bounds{User: string(user)}
	case function == operators.In:
		f, isField := n.field(args[0])
		if wanted, ok := texts(args[1]); isField && ok && f.Kind == Text && len(wanted) == 1 {
			return Bounds{Equal: map[Field]string{f.Name: wanted[0]}}
		}
	case comparisons[function]:
		if c, ok := n.comparison(function, args[0], args[1]); ok {
			return c.bounds()
		}
	}
	return Bounds{}
}

func (c *comparison) bounds() Bounds {
	switch {
	case c.field.Kind == Text && c.operator == operators.Equals:
		return Bounds{Equal: map[Field]string{c.field.Name: c.text}}
	case c.field.Name == "seq":
		return c.seqBounds()
	case c.field.Kind == Time:
		return c.timeBounds()
	}
	return Bounds{}
}

func (c *comparison) timeBounds() Bounds {
	at, next := c.moment, c.moment.Add(1)
	switch c.operator {
	case operators.Equals:
		return Bounds{From: at, To: next}
	case operators.Less:
		return Bounds{To: at}
	case operators.LessEquals:
		return Bounds{To: next}
	case operators.Greater:
		return Bounds{From: next}
	case operators.GreaterEquals:
		return Bounds{From: at}
	}
	return Bounds{}
}

func (c *comparison) seqBounds() Bounds {
	// A seq beyond CEL's integers counts as the largest of them, and a negative bound is none or one that nothing meets.
	if c.number < 0 || c.number == math.MaxInt64 {
		return Bounds{}
	}
	at, next := uint64(c.number), uint64(c.number)+1
	switch c.operator {
	case operators.Equals:
		return Bounds{FromSeq: at, ToSeq: next}
	case operators.Less:
		return Bounds{ToSeq: at}
	case operators.LessEquals:
		return Bounds{ToSeq: next}
	case operators.Greater:
		return Bounds{FromSeq: next}
	case operators.GreaterEquals:
		return Bounds{FromSeq: at}
	}
	return Bounds{}
}
