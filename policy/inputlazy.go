package policy

import (
	"errors"
	"maps"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// lazyTerm is term for policies that read the input by its fields: a field is made when a rule reads it. Most policies
// read a handful of the dozens there are, and making all of them takes as long as deciding.
func (in *Input) lazyTerm() *ast.Term {
	t := &slab{free: make([]ast.Term, 12)}
	return t.term(lazyObject{section: in, slab: t})
}

// field is a part of the input.
func (in *Input) field(t *slab, name string) *ast.Term {
	switch name {
	case "subject":
		return in.Subject.term()
	case "action":
		return t.term(lazyObject{section: &in.Action, slab: t})
	case "resource":
		return t.term(lazyObject{section: &in.Resource, slab: t})
	case "context":
		return t.term(lazyObject{section: lazyContext{&in.Context}, slab: t})
	}
	return nil
}

// lazyContext is a Context of which the request, too, is made field by field: every decision asks for one of them.
type lazyContext struct{ *Context }

func (c lazyContext) field(t *slab, name string) *ast.Term {
	if name == "request" {
		return t.term(lazyObject{section: &c.Request, slab: t})
	}
	return c.Context.field(t, name)
}

// lazyObject is an ast.Object that can be asked for its fields, and for nothing else: the policies that readByField
// admits do not get hold of it. Should the evaluator ask more after all, it panics, which denies.
type lazyObject struct {
	ast.Object // nil
	section
	slab *slab
}

// section is a part of the input: it makes the terms of its fields; nil for those it does not have.
type section interface {
	field(t *slab, name string) *ast.Term
}

// IsGround says that there are no variables in it.
func (lazyObject) IsGround() bool { return true }

// Get is a field, or nil.
func (o lazyObject) Get(key *ast.Term) *ast.Term {
	name, ok := key.Value.(ast.String)
	if !ok {
		return nil
	}
	return o.field(o.slab, string(name))
}

// Find is what a path below the object leads to.
func (o lazyObject) Find(path ast.Ref) (ast.Value, error) {
	t := o.Get(path[0])
	switch {
	case t == nil:
		return nil, errNoField
	case len(path) == 1:
		return t.Value, nil
	}
	return t.Value.Find(path[1:])
}

var errNoField = errors.New("no such field")

// readByField reports whether every rule, as far as its text tells, reads single fields of input.action, input.resource,
// input.context and input.context.request. One that reads all fields of a document may read the document.
func readByField(c *ast.Compiler) bool {
	d := &dependencies{compiler: c, visited: make(map[*ast.Rule]bool)}
	for m := range maps.Values(c.Modules) {
		for _, r := range m.Rules {
			d.rule(r)
		}
	}
	return d.err == nil && d.spares("action.") && d.spares("resource.") && d.spares("context.") && d.spares("context.request.")
}

// spares reports whether there is a field of a document that no rule reads.
func (d *dependencies) spares(document string) bool {
	for f, path := range fieldPaths {
		if strings.HasPrefix(path, document) && !d.fields[f] {
			return true
		}
	}
	return false
}
