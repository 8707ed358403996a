package lint

import (
	"maps"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// program is the operator's Rego with its names resolved as far as that takes no compiler: what does not compile is
// looked at, too.
type program struct {
	branches []*branch            // in the order of files and lines
	byPath   map[string][]*branch // by name, such as data.corp.people.admins
	apps     []string             // that have a package with a decision, in that order
	answers  map[string][]*branch // their decisions, those of parts such as decision.allow included
	related  map[string][]*branch // filled as names are asked for
	grants   []*grant             // all ways for app packages to say yes that can be followed
}

// branch is one way for a rule to have a value: a definition of it, or an else of one.
type branch struct {
	*ast.Rule
	module *ast.Module
	path   string // the rule's name
	first  bool   // no else
	locals map[ast.Var]binding
	names  map[ast.Var]ast.Ref // imports, and rules of the package
}

// binding is what a local variable stands for: a term, or any element of one.
type binding struct {
	term    *ast.Term
	element bool
}

func newProgram(modules map[string]*ast.Module, names []string) *program {
	p := &program{byPath: make(map[string][]*branch), answers: make(map[string][]*branch), related: make(map[string][]*branch)}
	packages := packageNames(modules)
	for _, name := range names {
		m := modules[name]
		scope := moduleNames(m, packages)
		for _, r := range m.Rules {
			path := rulePath(m, r)
			for part, first := r, true; part != nil; part, first = part.Else, false {
				b := &branch{Rule: part, module: m, path: path, first: first, names: scope, locals: locals(part, scope)}
				p.add(b)
			}
		}
	}
	p.grants = p.findGrants()
	return p
}

func (p *program) add(b *branch) {
	p.branches = append(p.branches, b)
	p.byPath[b.path] = append(p.byPath[b.path], b)
	app, decides := b.app()
	if !decides {
		return
	}
	if p.answers[app] == nil {
		p.apps = append(p.apps, app)
	}
	p.answers[app] = append(p.answers[app], b)
}

// relatives are the branches of the rules called so, of those below the name, and of the one that it lies in.
func (p *program) relatives(path string) []*branch {
	list, known := p.related[path]
	if !known {
		for _, b := range p.branches {
			if below(b.path, path) || below(path, b.path) {
				list = append(list, b)
			}
		}
		p.related[path] = list
	}
	return list
}

// rulePath is the rule's name as far as it is constant: data.corp.labels for corp.labels[x].
func rulePath(m *ast.Module, r *ast.Rule) string {
	path := m.Package.Path.Copy()
	for i, part := range r.Head.Ref() {
		switch v := part.Value.(type) {
		case ast.Var:
			if i > 0 {
				return pathText(path)
			}
			path = append(path, ast.StringTerm(string(v)))
		case ast.String:
			path = append(path, part)
		default:
			return pathText(path)
		}
	}
	return pathText(path)
}

// pathText joins the constant beginning of a reference with dots; what is not constant ends it with an empty word.
func pathText(r ast.Ref) string {
	var b strings.Builder
	for i, part := range r {
		switch v := part.Value.(type) {
		case ast.Var:
			if i > 0 {
				return b.String() + "."
			}
			b.WriteString(string(v))
		case ast.String:
			b.WriteString("." + string(v))
		default:
			return b.String() + "."
		}
	}
	return b.String()
}

// packageNames are the names of the rules of each package.
func packageNames(modules map[string]*ast.Module) map[string]map[ast.Var]ast.Ref {
	all := make(map[string]map[ast.Var]ast.Ref)
	for _, m := range modules {
		path := m.Package.Path.String()
		if all[path] == nil {
			all[path] = make(map[ast.Var]ast.Ref)
		}
		for _, r := range m.Rules {
			if name, ok := r.Head.Ref()[0].Value.(ast.Var); ok {
				all[path][name] = m.Package.Path.Append(ast.StringTerm(string(name)))
			}
		}
	}
	return all
}

func moduleNames(m *ast.Module, packages map[string]map[ast.Var]ast.Ref) map[ast.Var]ast.Ref {
	names := make(map[ast.Var]ast.Ref)
	maps.Copy(names, packages[m.Package.Path.String()])
	for _, i := range m.Imports {
		if ref, ok := i.Path.Value.(ast.Ref); ok {
			names[i.Name()] = ref
		}
	}
	return names
}

// locals are the variables that a rule gives a meaning: by assignment, by some … in, by every.
func locals(r *ast.Rule, names map[ast.Var]ast.Ref) map[ast.Var]binding {
	all := make(map[ast.Var]binding)
	bind := func(name *ast.Term, b binding) {
		if v, ok := name.Value.(ast.Var); ok && !v.IsWildcard() {
			all[v] = b
		}
	}
	ast.WalkExprs(&ast.Rule{Head: r.Head, Body: r.Body}, func(e *ast.Expr) bool {
		switch terms := e.Terms.(type) {
		case []*ast.Term:
			if len(terms) == 3 && (operator(terms[0]) == "assign" || operator(terms[0]) == "eq" && !named(terms[1], names)) {
				bind(terms[1], binding{term: terms[2]})
			}
		case *ast.SomeDecl:
			if call, ok := terms.Symbols[0].Value.(ast.Call); ok {
				bind(call[len(call)-2], binding{call[len(call)-1], true})
			}
		case *ast.Every:
			bind(terms.Value, binding{terms.Domain, true})
		}
		return false
	})
	return all
}

// named reports whether a term is the name of a rule or an import: = compares those.
func named(t *ast.Term, names map[ast.Var]ast.Ref) bool {
	v, ok := t.Value.(ast.Var)
	return ok && names[v] != nil
}

// operator is the name of the function that a call begins with.
func operator(t *ast.Term) string {
	if ref, ok := t.Value.(ast.Ref); ok {
		return ref.String()
	}
	return ""
}

// anyElement stands for an element of a collection, whichever.
var anyElement = ast.VarTerm("$")

// maxSteps bounds how many names lead to each other.
const maxSteps = 8

// resolve follows names to what they stand for: a reference to input or data, or a value.
func (b *branch) resolve(t *ast.Term) *ast.Term {
	for range maxSteps {
		next := b.step(t)
		if next == nil {
			return t
		}
		t = next
	}
	return t
}

func (b *branch) step(t *ast.Term) *ast.Term {
	switch v := t.Value.(type) {
	case ast.Var:
		return b.follow(v, nil, t)
	case ast.Ref:
		if len(v) == 0 {
			return nil
		}
		if name, ok := v[0].Value.(ast.Var); ok {
			return b.follow(name, v[1:], t)
		}
	}
	return nil
}

func (b *branch) follow(name ast.Var, rest []*ast.Term, at *ast.Term) *ast.Term {
	if name.Equal(ast.InputRootDocument.Value) || name.Equal(ast.DefaultRootDocument.Value) {
		return nil
	}
	if bound, ok := b.locals[name]; ok {
		return extend(bound, rest, at)
	}
	if ref, ok := b.names[name]; ok {
		return located(append(ref.Copy(), rest...), at)
	}
	return nil
}

// extend is what lies below a bound variable: only a reference can be followed further.
func extend(bound binding, rest []*ast.Term, at *ast.Term) *ast.Term {
	if bound.element {
		rest = append([]*ast.Term{anyElement}, rest...)
	}
	switch v := bound.term.Value.(type) {
	case ast.Ref:
		return located(append(v.Copy(), rest...), at)
	case ast.Var:
		return located(append(ast.Ref{bound.term}, rest...), at)
	}
	if len(rest) == 0 {
		return bound.term
	}
	return nil
}

func located(ref ast.Ref, at *ast.Term) *ast.Term {
	if len(ref) == 1 {
		return &ast.Term{Value: ref[0].Value, Location: at.Location}
	}
	return &ast.Term{Value: ref, Location: at.Location}
}

// plain are functions that change how a text is written and not whose it is.
var plain = map[string]bool{"lower": true, "upper": true, "trim_space": true}

// field is the place that a term reads, such as input.subject.email, or empty; a change of case does not count. What is
// below a place that is not constant shows as a dot at the end.
func (b *branch) field(t *ast.Term) string { return b.fieldWithin(t, maxSteps) }

func (b *branch) fieldWithin(t *ast.Term, left int) string {
	switch v := b.resolve(t).Value.(type) {
	case ast.Ref:
		return pathText(v)
	case ast.Call:
		switch name := operator(v[0]); {
		case left == 0:
		case plain[name] && len(v) == 2:
			return b.fieldWithin(v[1], left-1)
		case name == "object.get" && len(v) == 4:
			return got(b.fieldWithin(v[1], left-1), v[2])
		}
	}
	return ""
}

// got is the place that object.get reads.
func got(whole string, key *ast.Term) string {
	switch key := key.Value.(type) {
	case ast.String:
		return whole + "." + string(key)
	case *ast.Array:
		path := ast.Ref{ast.VarTerm("")}
		key.Foreach(func(t *ast.Term) { path = append(path, t) })
		return whole + pathText(path)
	}
	return whole + "."
}

// values are the constants that a term stands for: itself, or those of the rule or list that it names.
func (p *program) values(b *branch, t *ast.Term) []*ast.Term { return p.valuesWithin(b, t, maxSteps) }

func (p *program) valuesWithin(b *branch, t *ast.Term, left int) []*ast.Term {
	if left == 0 {
		return nil
	}
	if v, ok := t.Value.(ast.Var); ok {
		if bound, local := b.locals[v]; local && bound.element {
			return p.elementsWithin(b, bound.term, left-1)
		}
	}
	switch v := b.resolve(t).Value.(type) {
	case ast.String, ast.Number, ast.Boolean:
		return []*ast.Term{b.resolve(t)}
	case ast.Call:
		if len(v) == 2 && plain[operator(v[0])] {
			return p.valuesWithin(b, v[1], left-1)
		}
	case ast.Ref:
		if last := v[len(v)-1]; len(v) > 1 && !isConstant(last) {
			return p.elementsWithin(b, located(v[:len(v)-1].Copy(), t), left-1)
		}
		return p.ruleValues(v, left-1)
	}
	return nil
}

func isConstant(t *ast.Term) bool {
	_, variable := t.Value.(ast.Var)
	_, reference := t.Value.(ast.Ref)
	return !variable && !reference
}

// ruleValues are the constants of a rule.
func (p *program) ruleValues(ref ast.Ref, left int) (list []*ast.Term) {
	for _, b := range p.byPath[pathText(ref)] {
		if b.Head.Value != nil && b.Head.Key == nil {
			list = append(list, p.valuesWithin(b, b.Head.Value, left)...)
		}
	}
	return list
}

// namedBranches are the branches with a value of the rule, or the function, that a resolved term of b names.
func (p *program) namedBranches(b *branch, t *ast.Term) (list []*branch) {
	ref, ok := t.Value.(ast.Ref)
	if call, isCall := t.Value.(ast.Call); isCall {
		ref, ok = b.resolve(call[0]).Value.(ast.Ref)
	}
	if !ok {
		return nil
	}
	for _, b := range p.byPath[pathText(ref)] {
		if b.Head.Value != nil && b.Head.Key == nil && len(b.Head.Ref()) == 1 {
			list = append(list, b)
		}
	}
	return list
}

// elements are the constants in a list, a set or the rule that a term names; of an object, its values.
func (p *program) elements(b *branch, t *ast.Term) []*ast.Term {
	return p.elementsWithin(b, t, maxSteps)
}

func (p *program) elementsWithin(b *branch, t *ast.Term, left int) (list []*ast.Term) {
	if left == 0 {
		return nil
	}
	add := func(e *ast.Term) { list = append(list, p.valuesWithin(b, e, left-1)...) }
	switch v := b.resolve(t).Value.(type) {
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(_, e *ast.Term) { add(e) })
	case ast.Ref:
		for _, r := range p.byPath[pathText(v)] {
			if r.Head.Key != nil && r.Head.Value == nil { // contains
				list = append(list, p.valuesWithin(r, r.Head.Key, left-1)...)
			} else if r.Head.Value != nil {
				list = append(list, p.elementsWithin(r, r.Head.Value, left-1)...)
			}
		}
	}
	return list
}

// text is a constant string.
func text(t *ast.Term) (string, bool) {
	s, ok := t.Value.(ast.String)
	return string(s), ok
}
