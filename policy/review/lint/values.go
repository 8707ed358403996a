package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy/schema"
)

// findUnknowns tells conditions that hold just because something is not known.
func findUnknowns(p *pass) {
	known := schema.InputFields()
	for _, g := range p.grants {
		told := map[string]bool{}
		for _, r := range g.reads {
			place := strings.TrimPrefix(r.field, "input.")
			claim := strings.HasPrefix(place, "subject.claims.")
			if !r.against || r.bare || told[r.field] || !known[place].Optional && !claim || g.asserts(r.field) ||
				leadsToYes(p.grants, g.app, r) {
				continue
			}
			told[r.field] = true
			p.at(r.at, "demand that it is known: state what "+r.field+" has to be, not what it must not be",
				"this is negated, so it lets people in of whom %s is not known", r.field)
		}
	}
}

// asserts reports whether a grant also asks for a place without a negation, so that it has to be there.
func (g *grant) asserts(field string) bool {
	for _, r := range g.reads {
		if !r.against && below(r.field, field) {
			return true
		}
	}
	return false
}

// leadsToYes reports whether the same condition, not negated, lets people into the app as well: its absence is then no
// advantage.
func leadsToYes(grants []*grant, app string, negated reading) bool {
	return slices.ContainsFunc(grants, func(g *grant) bool {
		return g.app == app && slices.ContainsFunc(g.reads, func(r reading) bool {
			return !r.against && r.field == negated.field && r.at == negated.at
		})
	})
}

// findImpossible tells comparisons with values that a place of input never has.
func findImpossible(p *pass) {
	known := schema.InputFields()
	p.comparisons(func(c comparison) {
		f, ok := known[strings.TrimPrefix(c.field, "input.")]
		if !ok {
			return
		}
		for _, v := range c.values {
			if why, hint := outside(f, v); why != "" {
				p.at(c.at, hint, "%s is never %v: %s", c.field, v, why)
			}
		}
	})
}

// outside says why a value is none that a place has.
func outside(f schema.Field, v *ast.Term) (why, hint string) {
	if name, ok := text(v); ok && f.Enum != nil && !contains(f.Enum, name) {
		if hint = suggestion(name, f.Enum); hint == "" && len(name) > 3 && contains(f.Enum, strings.ToLower(name[:3])) {
			hint = fmt.Sprintf("did you mean %q?", strings.ToLower(name[:3]))
		}
		return "it is one of " + strings.Join(f.Enum, ", "), hint
	}
	if n, ok := number(v); ok && (f.Minimum != nil && n < *f.Minimum || f.Maximum != nil && n > *f.Maximum) {
		return fmt.Sprintf("it goes from %v to %v", *f.Minimum, *f.Maximum), ""
	}
	return "", ""
}

func number(t *ast.Term) (float64, bool) {
	n, ok := t.Value.(ast.Number)
	if !ok {
		return 0, false
	}
	return n.Float64()
}

// findUnreachable tells rules that never have a value.
func findUnreachable(p *pass) {
	var before *branch
	for _, b := range p.branches {
		if !b.first && before != nil && unconditional(before) {
			p.at(b.Location, "", "it is never reached: the branch in line %d has no condition", before.Head.Location.Row)
		}
		before = b
		if e := p.contradiction(b); e != nil {
			p.at(e.Location, "", "the rule never holds: this excludes what it demands before")
		}
	}
	findShadowed(p)
}

// contradiction is the first condition of a body that cannot hold together with those before it.
func (p *pass) contradiction(b *branch) *ast.Expr {
	pins, spans := map[string]*ast.Term{}, map[string]*span{}
	for _, e := range b.Body {
		if t, ok := e.Terms.(*ast.Term); ok && t.Value.Compare(ast.Boolean(e.Negated)) == 0 {
			return e
		}
		if field, value := b.pinned(e); field != "" {
			if before := pins[field]; before != nil && before.Value.Compare(value.Value) != 0 {
				return e
			}
			pins[field] = value
		}
		if !narrow(b, e, spans) {
			return e
		}
	}
	return nil
}

// span is what comparisons leave of a number.
type span struct {
	from, to         float64
	fromOpen, toOpen bool // the end itself is excluded
	hasFrom, hasTo   bool
}

func (s *span) empty() bool {
	return s.hasFrom && s.hasTo && (s.from > s.to || s.from == s.to && (s.fromOpen || s.toOpen))
}

// mirrored are the operators with their sides exchanged.
var mirrored = map[string]string{"lt": "gt", "gt": "lt", "lte": "gte", "gte": "lte"}

// narrow applies a comparison of a place with a number; false if nothing is left.
func narrow(b *branch, e *ast.Expr, spans map[string]*span) bool {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || e.Negated || len(terms) != 3 || mirrored[operator(terms[0])] == "" {
		return true
	}
	op, field := operator(terms[0]), b.field(terms[1])
	bound, isNumber := number(b.resolve(terms[2]))
	if !isNumber {
		op, field = mirrored[op], b.field(terms[2])
		bound, isNumber = number(b.resolve(terms[1]))
	}
	if !isNumber || !strings.HasPrefix(field, "input.") || strings.HasSuffix(field, ".") {
		return true
	}
	if spans[field] == nil {
		spans[field] = spanOf(field)
	}
	spans[field].restrict(op, bound)
	return !spans[field].empty()
}

// spanOf is what the schema allows.
func spanOf(field string) *span {
	s, f := new(span), schema.InputFields()[strings.TrimPrefix(field, "input.")]
	if f.Minimum != nil {
		s.from, s.hasFrom = *f.Minimum, true
	}
	if f.Maximum != nil {
		s.to, s.hasTo = *f.Maximum, true
	}
	return s
}

func (s *span) restrict(op string, bound float64) {
	open := op == "lt" || op == "gt"
	if op == "gt" || op == "gte" {
		if !s.hasFrom || bound > s.from || bound == s.from && open {
			s.from, s.fromOpen, s.hasFrom = bound, open, true
		}
		return
	}
	if !s.hasTo || bound < s.to || bound == s.to && open {
		s.to, s.toOpen, s.hasTo = bound, open, true
	}
}

// times are the places that hold a time as text.
var times = map[string]string{
	"input.context.time":            "compare input.context.time_ns with time.parse_rfc3339_ns(…), or use input.context.hour and weekday",
	"input.subject.authn.time":      "use input.subject.authn.age_s",
	"input.subject.cert.not_after":  "compare time.parse_rfc3339_ns(…) with input.context.time_ns",
	"input.subject.grants..expires": "compare time.parse_rfc3339_ns(…) with input.context.time_ns",
}

// findTimeText tells times that are compared as texts.
func findTimeText(p *pass) {
	p.calls(func(c call) {
		if mirrored[c.op] == "" || len(c.args) != 2 {
			return
		}
		for _, a := range c.args {
			if hint := times[c.elementField(a)]; hint != "" {
				p.at(c.at, hint, "two times are compared as texts: 09:00+02:00 is earlier than 08:00Z, and sorts after it")
				return
			}
		}
	})
}

// elementField is a place below an element of a list, such as input.subject.grants..expires.
func (b *branch) elementField(t *ast.Term) string {
	ref, ok := b.resolve(t).Value.(ast.Ref)
	if !ok {
		return ""
	}
	var words []string
	for i, part := range ref {
		switch v := part.Value.(type) {
		case ast.String:
			words = append(words, string(v))
		case ast.Var:
			if i == 0 {
				words = append(words, string(v))
				continue
			}
			words = append(words, "")
		default:
			words = append(words, "")
		}
	}
	return strings.Join(words, ".")
}
