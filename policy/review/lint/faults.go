package lint

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// maxRounds bounds how often a policy is compiled to find what else is wrong with it.
const maxRounds = 12

// compileAll finds everything that the compiler has to say. A compiler stops after the stage in which it finds something:
// the rules at fault are replaced by ones that could have any value, and the rest is compiled again, until there is
// nothing more to find. What only follows from a replacement is not told.
func compileAll(modules map[string]*ast.Module, strict bool) (found ast.Errors) {
	r := &repair{modules: make(map[string]*ast.Module, len(modules)), replaced: make(map[*ast.Rule]bool), touched: make(map[string]bool)}
	for name, m := range modules {
		r.modules[name] = m.Copy()
	}
	for range maxRounds {
		compiler := policy.ReviewCompiler().SetErrorLimit(0).WithStrict(strict)
		compiler.WithSchemas(schemas()).Compile(r.modules)
		if !compiler.Failed() {
			return found
		}
		r.changed = false
		for _, e := range compiler.Errors {
			if r.fresh(e) {
				found = append(found, e)
			}
		}
		for _, e := range compiler.Errors {
			r.repair(e)
		}
		if !r.changed {
			return found
		}
	}
	return found
}

// repair is a policy whose faults are taken out one by one.
type repair struct {
	modules  map[string]*ast.Module
	replaced map[*ast.Rule]bool
	touched  map[string]bool // files, whose imports may be unused since
	lossy    bool            // something was removed that others may refer to
	changed  bool
}

// fresh reports whether an error is the author's: not in a rule of ours, and not about what was removed or its imports.
func (r *repair) fresh(e *ast.Error) bool {
	if e.Location == nil {
		return true
	}
	if _, rule := r.at(e.Location); rule != nil && r.replaced[rule] {
		return false
	}
	if r.touched[e.Location.File] && strings.HasPrefix(e.Message, "import ") {
		return false
	}
	return !r.lossy || !strings.HasPrefix(e.Message, "undefined function data.") && e.Code != ast.UnsafeVarErr
}

// repair takes the fault of an error out: first the body of its rule, then the rule, then the file.
func (r *repair) repair(e *ast.Error) {
	if e.Location == nil || r.modules[e.Location.File] == nil {
		return
	}
	r.changed, r.touched[e.Location.File] = true, true
	m, rule := r.at(e.Location)
	switch {
	case rule == nil:
		delete(r.modules, e.Location.File)
		r.lossy = true
	case r.replaced[rule] || rule.Default:
		m.Rules = without(m.Rules, rule)
		r.lossy = true
	default:
		r.replaced[rule] = true
		rule.Body, rule.Else = ast.NewBody(ast.NewExpr(ast.BooleanTerm(true).SetLocation(rule.Location)).SetLocation(rule.Location)), nil
		if rule.Head.Value != nil {
			rule.Head.Value = anyValue(rule.Location)
		}
	}
}

// at is the rule that an error lies in; nil if it lies outside of all.
func (r *repair) at(l *ast.Location) (*ast.Module, *ast.Rule) {
	m := r.modules[l.File]
	if m == nil {
		return nil, nil
	}
	var rule *ast.Rule
	for _, candidate := range m.Rules {
		if begin := candidate.Location; begin != nil && begin.Offset <= l.Offset && (rule == nil || begin.Offset > rule.Location.Offset) {
			rule = candidate
		}
	}
	return m, rule
}

func without(rules []*ast.Rule, rule *ast.Rule) (rest []*ast.Rule) {
	for _, r := range rules {
		if r != rule {
			rest = append(rest, r)
		}
	}
	return rest
}

// anyValue is a value whose type nobody knows.
func anyValue(at *ast.Location) *ast.Term {
	return ast.CallTerm(ast.NewTerm(ast.JSONUnmarshal.Ref()).SetLocation(at), ast.StringTerm("null").SetLocation(at)).SetLocation(at)
}
