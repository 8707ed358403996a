package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// comparison is what the rules hold against some places under input: everything that a chain of equations, look-ups and
// function calls connects.
type comparison struct {
	places  []string
	strings []string
	numbers []int64
	calls   []string
}

// At are the constants that may be compared with one of the places under input, or part of it.
func (c *Constants) At(places ...string) *Constants {
	if c.All {
		return c
	}
	var all comparison
	for _, one := range c.comparisons(places) {
		all.strings = append(all.strings, one.strings...)
		all.numbers = append(all.numbers, one.numbers...)
		all.calls = append(all.calls, one.calls...)
	}
	return c.only(&all, places)
}

// Apart are the constants of At, those apart that nothing connects.
func (c *Constants) Apart(places ...string) []*Constants {
	if c.All {
		return []*Constants{c}
	}
	var list []*Constants
	for _, one := range c.comparisons(places) {
		list = append(list, c.only(one, places))
	}
	return list
}

// only is c as if it held nothing else than what stands in a comparison.
func (c *Constants) only(one *comparison, places []string) *Constants {
	narrow := *c
	narrow.compared = []comparison{{places: slices.Concat(one.places, places), strings: one.strings, numbers: one.numbers, calls: one.calls}}
	narrow.Strings, narrow.Numbers, narrow.Calls = sortedOnce(one.strings), sortedOnce(one.numbers), sortedOnce(one.calls)
	return &narrow
}

func sortedOnce[T string | int64](list []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// comparisons are those with the places, and those with places that are held against these: with query == path, what the
// query is compared with counts for the path too.
func (c *Constants) comparisons(places []string) []*comparison {
	wanted := slices.Clone(places)
	chosen := make([]bool, len(c.compared))
	for again := true; again; {
		again = false
		for i := range c.compared {
			if !chosen[i] && c.compared[i].concerns(wanted) {
				chosen[i] = true
				again = true
				wanted = append(wanted, c.compared[i].places...)
			}
		}
	}
	var list []*comparison
	for i := range c.compared {
		if chosen[i] {
			list = append(list, &c.compared[i])
		}
	}
	return list
}

func (c *comparison) concerns(places []string) bool {
	return slices.ContainsFunc(c.places, func(p string) bool {
		return slices.ContainsFunc(places, func(wanted string) bool { return within(p, wanted) || within(wanted, p) })
	})
}

// within reports whether a place is another one or part of it.
func within(place, other string) bool {
	rest, part := strings.CutPrefix(place, other)
	return part && (rest == "" || other == "" || rest[0] == '.')
}

// links finds out which constants meet which places under input. Terms that an expression connects are put together,
// whichever way values go between them: what stands apart in the end can never have been compared. Collections are one
// with their keys and elements, and a function is one for all its calls. Places and constants themselves connect nothing:
// each use of them counts alone.
type links struct {
	g       *gatherer
	rule    *ast.Rule // being walked
	lost    bool      // it holds something of an unknown kind: all of the rule counts as connected
	parents []int     // of the terms, as trees: all that hang together have one root
	labels  []label
	vars    map[localVar]int
	values  map[*ast.Rule]int // what rules yield
	args    map[*ast.Rule][]int
}

// localVar is a variable of a rule and its else branches.
type localVar struct {
	rule *ast.Rule
	name ast.Var
}

// label says what a term is: the constant, the place under input named, or the result of the built-in function named.
type label struct {
	term     int
	constant ast.Value
	place    *string
	call     string
}

func newLinks(g *gatherer) *links {
	return &links{g: g, vars: make(map[localVar]int), values: make(map[*ast.Rule]int), args: make(map[*ast.Rule][]int)}
}

func (l *links) fresh() int {
	l.parents = append(l.parents, len(l.parents))
	return len(l.parents) - 1
}

func (l *links) root(n int) int {
	for l.parents[n] != n {
		l.parents[n] = l.parents[l.parents[n]]
		n = l.parents[n]
	}
	return n
}

func (l *links) join(a, b int) { l.parents[l.root(a)] = l.root(b) }

// walk takes in a rule with its else branches; plain is how it reads input. What an entry says outright, as codes and texts, is compared with nothing.
func (l *links) walk(r, plain *ast.Rule, entry bool) {
	l.rule = r
	first := len(l.parents)
	l.lost = false
	value := l.value(r)
	for e := plain; e != nil; e = e.Else {
		for i, arg := range e.Head.Args {
			l.join(l.arg(r, i), l.term(arg))
		}
		for _, t := range e.Head.Reference[min(1, len(e.Head.Reference)):] {
			if !entry {
				l.join(value, l.term(t))
			}
		}
		for _, t := range []*ast.Term{e.Head.Key, e.Head.Value} {
			if t != nil && entry {
				l.said(t)
			} else if t != nil {
				l.join(value, l.term(t))
			}
		}
		l.body(e.Body)
	}
	for n := first; n < len(l.parents) && l.lost; n++ {
		l.join(first, n)
	}
}

// said walks what a decision says, whose own words are compared with nothing.
func (l *links) said(t *ast.Term) {
	switch v := t.Value.(type) {
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { l.said(t) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { l.said(t) })
	case ast.Object:
		v.Foreach(func(k, t *ast.Term) { l.said(k); l.said(t) })
	default:
		l.term(t)
	}
}

func (l *links) value(r *ast.Rule) int {
	n, known := l.values[r]
	if !known {
		n = l.fresh()
		l.values[r] = n
	}
	return n
}

func (l *links) arg(r *ast.Rule, i int) int {
	for len(l.args[r]) <= i {
		l.args[r] = append(l.args[r], l.fresh())
	}
	return l.args[r][i]
}

func (l *links) body(b ast.Body) {
	for _, e := range b {
		l.expr(e)
	}
}

func (l *links) expr(e *ast.Expr) {
	switch terms := e.Terms.(type) {
	case *ast.Term:
		l.term(terms)
	case []*ast.Term:
		l.call(terms)
	case *ast.SomeDecl:
		for _, t := range terms.Symbols {
			l.term(t)
		}
	case *ast.Every:
		domain := l.term(terms.Domain)
		l.join(domain, l.term(terms.Value))
		if terms.Key != nil {
			l.join(domain, l.term(terms.Key))
		}
		l.body(terms.Body)
	default:
		l.lost = true
	}
}

// term is the number of a term.
func (l *links) term(t *ast.Term) int {
	switch v := t.Value.(type) {
	case ast.Var:
		return l.variable(v)
	case ast.Ref:
		return l.reference(v)
	case ast.Call:
		return l.call(v)
	}
	n := l.fresh()
	part := func(t *ast.Term) { l.join(n, l.term(t)) }
	switch v := t.Value.(type) {
	case ast.String, ast.Number:
		l.labels = append(l.labels, label{term: n, constant: v})
	case ast.Boolean, ast.Null:
	case *ast.Array:
		v.Foreach(part)
	case ast.Set:
		v.Foreach(part)
	case ast.Object:
		v.Foreach(func(k, t *ast.Term) { part(k); part(t) })
	case *ast.ArrayComprehension:
		part(v.Term)
		l.body(v.Body)
	case *ast.SetComprehension:
		part(v.Term)
		l.body(v.Body)
	case *ast.ObjectComprehension:
		part(v.Key)
		part(v.Value)
		l.body(v.Body)
	default:
		l.lost = true
		l.everythingIn(t, n)
	}
	return n
}

// everythingIn joins all that a term of an unknown kind holds.
func (l *links) everythingIn(t *ast.Term, n int) {
	ast.WalkTerms(t, func(part *ast.Term) bool {
		switch v := part.Value.(type) {
		case ast.Var:
			l.join(n, l.variable(v))
		case ast.Ref:
			l.join(n, l.reference(v))
		case ast.String, ast.Number:
			l.labels = append(l.labels, label{term: n, constant: v})
		}
		return false
	})
}

func (l *links) variable(v ast.Var) int {
	if v.Equal(ast.InputRootDocument.Value) {
		return l.place("")
	}
	key := localVar{l.rule, v}
	n, known := l.vars[key]
	if !known {
		n = l.fresh()
		l.vars[key] = n
	}
	return n
}

func (l *links) place(name string) int {
	n := l.fresh()
	l.labels = append(l.labels, label{term: n, place: &name})
	return n
}

// reference is what a reference leads to. What it looks up by is one with what it finds.
func (l *links) reference(r ast.Ref) int {
	var n int
	switch {
	case r.HasPrefix(refInput):
		n = l.place(strings.Join(placeNames(r), "."))
	case r.HasPrefix(refAccess):
		n = l.fresh()
	case r[0].Equal(ast.DefaultRootDocument):
		n = l.document(r)
	default:
		n = l.term(r[0])
	}
	for _, t := range r[1:] {
		if _, name := placeName(t); !name {
			l.join(n, l.term(t))
		}
	}
	return n
}

// document is what rules, or the policy's data, hold at a place of data.
func (l *links) document(r ast.Ref) int {
	n := l.fresh()
	constant := func(t *ast.Term) {
		switch t.Value.(type) {
		case ast.String, ast.Number:
			l.labels = append(l.labels, label{term: n, constant: t.Value})
		}
	}
	for _, rule := range l.rulesOf(r) {
		l.join(n, l.value(rule))
		for _, t := range r[min(len(r), len(rule.Module.Package.Path)+1):] { // as in by_method.GET
			constant(t)
		}
		for _, t := range rule.Ref()[min(len(rule.Ref()), len(r.ConstantPrefix())):] { // as in checks[input.action.name]
			constant(t)
		}
	}
	if v := l.g.documentAt(r.ConstantPrefix()); v != nil {
		ast.WalkTerms(ast.NewTerm(v), func(t *ast.Term) bool { constant(t); return false })
	}
	return n
}

func (l *links) rulesOf(r ast.Ref) []*ast.Rule {
	return l.g.engine.compiler.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true})
}

// call is what a function yields; terms are the function, its arguments, and what its result is called, if it is.
func (l *links) call(terms []*ast.Term) int {
	if r, ok := constantGet(terms); ok {
		n := l.reference(r)
		for _, t := range terms[3:] {
			l.join(n, l.term(t))
		}
		return n
	}
	operands := make([]int, len(terms)-1)
	for i, t := range terms[1:] {
		operands[i] = l.term(t)
	}
	if ref, ok := terms[0].Value.(ast.Ref); ok && ref[0].Equal(ast.DefaultRootDocument) {
		return l.ownFunction(ref, operands)
	}
	name := strings.TrimPrefix(terms[0].String(), guardPrefix)
	n := l.fresh()
	l.labels = append(l.labels, label{term: n, call: name})
	known := ast.BuiltinMap[name]
	if known == nil || known.Decl.Result() == nil || types.Compare(known.Decl.Result(), types.B) != 0 {
		for _, o := range operands {
			l.join(n, o)
		}
		return n
	}
	// Whether it holds is all that a test yields.
	for _, o := range operands[:min(len(operands), len(known.Decl.FuncArgs().Args))] {
		l.join(n, o)
	}
	return l.fresh()
}

func (l *links) ownFunction(ref ast.Ref, operands []int) int {
	n := l.fresh()
	rules := l.rulesOf(ref)
	if len(rules) == 0 {
		l.lost = true
	}
	for _, rule := range rules {
		l.join(n, l.value(rule))
		for i, o := range operands {
			if i < len(rule.Head.Args) {
				l.join(l.arg(rule, i), o)
			} else {
				l.join(n, o)
			}
		}
	}
	return n
}

var refObjectGet = ast.ObjectGet.Ref()

// constantGet is the reference that says the same as a call of object.get on input with a path of constants.
func constantGet(terms []*ast.Term) (ast.Ref, bool) {
	if len(terms) < 4 || strings.TrimPrefix(terms[0].String(), guardPrefix) != refObjectGet.String() {
		return nil, false
	}
	base, ok := terms[1].Value.(ast.Ref)
	if root, whole := terms[1].Value.(ast.Var); whole && root.Equal(ast.InputRootDocument.Value) {
		base, ok = refInput, true
	}
	if !ok || !base.HasPrefix(refInput) || len(placeNames(base)) != len(base)-1 {
		return nil, false
	}
	path, ok := terms[2].Value.(*ast.Array)
	if !ok {
		path = ast.NewArray(terms[2])
	}
	r := base.Copy()
	for i := range path.Len() {
		if _, constant := placeName(path.Elem(i)); !constant {
			return nil, false
		}
		r = append(r, path.Elem(i))
	}
	return r, true
}

// placeNames are the names of the place under input that a reference reads, up to the first part that is no name.
func placeNames(r ast.Ref) []string {
	var names []string
	for _, t := range r[1:] {
		name, constant := placeName(t)
		if !constant {
			break
		}
		names = append(names, name)
	}
	return names
}

// comparisons are what was found, with the places under input that it concerns.
func (l *links) comparisons() []comparison {
	type sets struct {
		places, strings, calls map[string]bool
		numbers                map[int64]bool
	}
	byRoot := map[int]*sets{}
	var order []*sets
	for _, named := range l.labels {
		root := l.root(named.term)
		s := byRoot[root]
		if s == nil {
			s = &sets{map[string]bool{}, map[string]bool{}, map[string]bool{}, map[int64]bool{}}
			byRoot[root] = s
			order = append(order, s)
		}
		switch v := named.constant.(type) {
		case ast.String:
			s.strings[string(v)] = true
		case ast.Number:
			if n, ok := wholeOf(v); ok {
				s.numbers[n] = true
			}
		}
		if named.place != nil {
			s.places[*named.place] = true
		}
		if named.call != "" {
			s.calls[named.call] = true
		}
	}
	var list []comparison
	for _, s := range order {
		if len(s.places) > 0 {
			list = append(list, comparison{sortedNames(s.places), sortedNames(s.strings), slices.Sorted(maps.Keys(s.numbers)), sortedNames(s.calls)})
		}
	}
	return list
}
