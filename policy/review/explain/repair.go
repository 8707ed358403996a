package explain

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// repairs are changes of the input, each of which would meet a condition on which a rule failed.
func (s *Subject) repairs(ctx context.Context, o *observation) []Change {
	var list []Change
	o.each(func(a *asked) {
		if a.holds || a.reach < 0 || a.rule.Default {
			return
		}
		list = append(list, s.repair(ctx, a)...)
	})
	order(list)
	return list
}

// repair are changes that would meet the condition on which a rule failed.
func (s *Subject) repair(ctx context.Context, a *asked) []Change {
	lookup := func(ref ast.Ref) ast.Value {
		value, err := s.engine.Observe(ctx, new(policy.Input), ref, maxSteps, nil)
		if err != nil || value == nil {
			return nil
		}
		return value.Value
	}
	r := &repairer{Subject: s, lookup: lookup, asked: a, definitions: definitionsOf(a.rule.Body)}
	failed := a.rule.Body[a.reach]
	if failed.Negated {
		return r.refute(failed)
	}
	r.expression(failed)
	if len(r.found) == 0 { // the condition defines a variable: what is asked of that
		for _, later := range a.rule.Body[a.reach+1:] {
			if uses(later, failed) {
				r.expression(later)
			}
		}
	}
	return r.found
}

// repairer looks for changes that meet one condition.
type repairer struct {
	*Subject
	lookup      func(ref ast.Ref) ast.Value // a document of the policy's own; nil: it is not known
	asked       *asked
	definitions map[ast.Var]*ast.Term
	found       []Change
}

// definitionsOf tells what the variables of a body stand for: the compiler gives one to each part of an expression.
func definitionsOf(body ast.Body) map[ast.Var]*ast.Term {
	defined := map[ast.Var]*ast.Term{}
	for _, e := range body {
		terms, is := e.Terms.([]*ast.Term)
		if !is {
			continue
		}
		operands := terms[1:]
		if e.IsEquality() && len(operands) == 2 {
			for i, o := range operands {
				if v, is := o.Value.(ast.Var); is && defined[v] == nil {
					defined[v] = operands[1-i]
					break
				}
			}
			continue
		}
		if v, is := operands[len(operands)-1].Value.(ast.Var); is && transparent(terms[0]) {
			defined[v] = operands[0]
		}
	}
	return defined
}

// transparent reports whether a function's result is near enough to its argument that meeting one meets the other.
func transparent(operator *ast.Term) bool {
	switch operator.Value.String() {
	case "lower", "upper", "trim_space":
		return true
	}
	return false
}

func uses(e, definition *ast.Expr) (found bool) {
	ast.WalkVars(definition, func(v ast.Var) bool {
		ast.WalkVars(e, func(w ast.Var) bool {
			found = found || v == w && v.IsGenerated()
			return found
		})
		return found
	})
	return found
}

// operand is one side of a comparison: a field of the input, or a value.
type operand struct {
	field   string // a place under input
	element bool   // it is an element of the field
	value   ast.Value
}

// resolve follows variables to what they stand for, in the rule and in those that called it.
func (r *repairer) resolve(t *ast.Term) operand {
	defined, a := r.definitions, r.asked
	for range maxHops {
		v, is := t.Value.(ast.Var)
		if !is {
			break
		}
		next := defined[v]
		if next == nil {
			if next = argument(a, v); next == nil {
				return operand{value: r.asked.local(v)}
			}
			a = a.caller
			defined = definitionsOf(a.rule.Body)
		}
		t = next
	}
	return r.operand(t)
}

const maxHops = 16

// argument is what a function was called with, as its caller wrote it.
func argument(a *asked, v ast.Var) *ast.Term {
	if a.caller == nil {
		return nil
	}
	place := slices.IndexFunc(a.rule.Head.Args, func(t *ast.Term) bool { return t.Value.Compare(v) == 0 })
	terms, is := a.caller.rule.Body[a.site].Terms.([]*ast.Term)
	if place < 0 || !is || place+1 >= len(terms) {
		return nil
	}
	return terms[place+1]
}

func (r *repairer) operand(t *ast.Term) operand {
	ref, is := t.Value.(ast.Ref)
	switch {
	case !is:
		return operand{value: r.plugged(t)}
	case ref.HasPrefix(ast.InputRootRef):
		field := name(ref)
		return operand{field: field, element: strings.Count(field, ".")+2 < len(ref)}
	case ref.HasPrefix(ast.DefaultRootRef) && ref.IsGround():
		return operand{value: r.lookup(ref)}
	}
	return operand{}
}

// plugged is a value, or a list of values, with its variables filled in; nil if one of them had no value.
func (r *repairer) plugged(t *ast.Term) ast.Value {
	if t.IsGround() {
		return t.Value
	}
	list, is := t.Value.(*ast.Array)
	if !is {
		return r.asked.local(varOf(t))
	}
	filled := make([]*ast.Term, list.Len())
	for i := range filled {
		value := r.plugged(list.Elem(i))
		if value == nil {
			return nil
		}
		filled[i] = ast.NewTerm(value)
	}
	return ast.NewArray(filled...)
}

// varOf is a variable, or none.
func varOf(t *ast.Term) ast.Var {
	v, _ := t.Value.(ast.Var)
	return v
}

// expression finds what would make a condition hold.
func (r *repairer) expression(e *ast.Expr) {
	switch terms := e.Terms.(type) {
	case *ast.Term:
		r.truthy(terms)
	case []*ast.Term:
		operands := make([]operand, len(terms)-1)
		for i, t := range terms[1:] {
			operands[i] = r.resolve(t)
		}
		r.call(terms[0].Value.String(), operands)
	}
}

// truthy finds what makes a reference true: a fact of the input, or a member of a document of the policy's.
func (r *repairer) truthy(t *ast.Term) {
	o := r.resolve(t)
	if o.field != "" && !o.element {
		r.set(o.field, true)
		return
	}
	ref, is := t.Value.(ast.Ref)
	if !is || len(ref) < 2 || !ref.HasPrefix(ast.DefaultRootRef) {
		return
	}
	asked := r.resolve(ref[len(ref)-1])
	if asked.field == "" || !ref[:len(ref)-1].IsGround() {
		return
	}
	r.member(asked, r.operand(ast.NewTerm(ref[:len(ref)-1])).value)
}

// call finds what makes a comparison hold.
func (r *repairer) call(function string, o []operand) {
	if len(o) < 2 {
		return
	}
	a, b := o[0], o[1]
	switch strings.TrimPrefix(function, "sallyport.guarded.") {
	case "eq", "equal":
		r.equal(a, b)
		r.equal(b, a)
	case "gt", "gte", "lt", "lte":
		r.compare(function, a, b)
		r.compare(map[string]string{"gt": "lt", "gte": "lte", "lt": "gt", "lte": "gte"}[function], b, a)
	case "internal.member_2":
		r.member(a, b.value)
		if b.field != "" && a.value != nil {
			r.join(b.field, a.value)
		}
	case "internal.member_3":
		if len(o) > 2 {
			r.member(o[1], o[2].value)
		}
	case "startswith":
		r.equal(a, b)
	case "endswith":
		r.end(a, b)
	case "contains":
		r.equal(a, b)
	case "strings.any_prefix_match":
		r.member(a, b.value)
	case "net.cidr_contains":
		r.network(b, a)
	}
}

// equal makes one side what the other is.
func (r *repairer) equal(a, b operand) {
	switch {
	case a.field == "" || b.value == nil:
	case a.element:
		r.join(a.field, b.value)
	default:
		r.set(a.field, b.value)
	}
}

// compare makes a number just large or small enough.
func (r *repairer) compare(relation string, a, b operand) {
	number, is := b.value.(ast.Number)
	if a.field == "" || a.element || !is {
		return
	}
	n, whole := number.Int()
	if !whole {
		return
	}
	n += map[string]int{"gt": 1, "lt": -1}[relation]
	r.set(a.field, ast.Number(json.Number(ast.IntNumberTerm(n).String())))
}

// maxMembers is how many members of a set are tried.
const maxMembers = 3

// member makes the field one of a collection, or an element of the field.
func (r *repairer) member(a operand, collection ast.Value) {
	for _, v := range members(collection) {
		r.equal(a, operand{value: v})
	}
}

// members are the first elements of a collection: of an object its keys' values, when asked as in a set its keys.
func members(collection ast.Value) []ast.Value {
	var list []ast.Value
	add := func(t *ast.Term) {
		if len(list) < maxMembers {
			list = append(list, t.Value)
		}
	}
	switch c := collection.(type) {
	case *ast.Array:
		c.Foreach(add)
	case ast.Set:
		c.Foreach(add)
	case ast.Object:
		c.Foreach(func(k, _ *ast.Term) { add(k) })
	}
	return list
}

// end makes a text end as it should: an address at a domain, with somebody before it.
func (r *repairer) end(a, b operand) {
	if text, is := b.value.(ast.String); is {
		r.equal(a, operand{value: ast.String("somebody" + string(text))})
	}
}

// network makes an address one of a network.
func (r *repairer) network(address, network operand) {
	text, is := network.value.(ast.String)
	if !is || address.field == "" {
		return
	}
	prefix, err := netip.ParsePrefix(string(text))
	if err == nil && address.field == "context.client.ip" {
		r.found = append(r.found, setIP(prefix))
	}
}

// refute finds what makes a negated condition hold: that the fact it denies is not so.
func (r *repairer) refute(e *ast.Expr) []Change {
	if t, is := e.Terms.(*ast.Term); is {
		if o := r.resolve(t); o.field != "" && !o.element {
			r.set(o.field, ast.Boolean(false))
		}
	}
	for _, a := range r.asked.asks[r.asked.reach] {
		if a.holds {
			r.undo(a)
		}
	}
	return r.found
}

// undo finds what would make a rule fail that held: the opposite of one of its facts.
func (r *repairer) undo(a *asked) {
	inner := &repairer{Subject: r.Subject, lookup: r.lookup, asked: a, definitions: definitionsOf(a.rule.Body)}
	for _, e := range a.rule.Body {
		switch terms := e.Terms.(type) {
		case *ast.Term:
			if o := inner.resolve(terms); o.field != "" && !o.element && !e.Negated {
				inner.set(o.field, ast.Boolean(false))
			} else if o.field != "" && !o.element {
				inner.set(o.field, ast.Boolean(true))
			}
		case []*ast.Term:
			inner.opposite(terms)
		}
	}
	r.found = append(r.found, inner.found...)
}

// opposite finds what would make a comparison of numbers fail.
func (r *repairer) opposite(terms []*ast.Term) {
	against := map[string]string{"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
	if relation := against[terms[0].Value.String()]; relation != "" {
		r.call(relation, []operand{r.resolve(terms[1]), r.resolve(terms[2])})
	}
}

// set and join collect the changes that can be made.
func (r *repairer) set(field string, value any) {
	if c, ok := r.Subject.set(field, plain(value)); ok {
		r.found = append(r.found, c)
	}
}

func (r *repairer) join(field string, value ast.Value) {
	if c, ok := r.Subject.join(field, plain(value)); ok {
		r.found = append(r.found, c)
	}
}

// plain is a value as JSON has it; nil: it has no such value.
func plain(v any) any {
	value, is := v.(ast.Value)
	if !is {
		return v
	}
	j, err := ast.JSON(value)
	if err != nil {
		return nil
	}
	return j
}
