package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// findConflicts tells decisions that may have two values at once, which denies.
func findConflicts(p *pass) {
	for _, app := range p.apps {
		var list []*branch
		for _, b := range p.answers[app] {
			if !b.Default && len(b.Head.Ref()) == 1 && b.Head.Value != nil && b.first {
				list = append(list, b)
			}
		}
		for i, b := range list {
			for _, other := range list[:i] {
				if differ(other, b) && meet(other, b) {
					p.at(b.Head.Location, "make the conditions exclude each other, or chain the rules with else",
						"when this holds and the decision in line %d as well, there are two answers, which denies", other.Head.Location.Row)
					break
				}
			}
		}
	}
}

// differ reports whether two decisions are constants, and not the same one.
func differ(a, b *branch) bool {
	x, y := a.resolve(a.Head.Value), b.resolve(b.Head.Value)
	return x.IsGround() && y.IsGround() && isObject(x) && isObject(y) && x.Value.Compare(y.Value) != 0
}

func isObject(t *ast.Term) bool {
	_, ok := t.Value.(ast.Object)
	return ok
}

// meet reports whether two conditions plainly hold at once: one holds whenever the other does, or what they do not share
// is about things that have nothing to do with each other.
func meet(a, b *branch) bool {
	if excludes(a, b) {
		return false
	}
	if implies(a, b) || implies(b, a) {
		return true
	}
	x, y := a.places(besides(a, b)), b.places(besides(b, a))
	return len(x) > 0 && len(y) > 0 && !slices.ContainsFunc(x, func(f string) bool {
		return slices.ContainsFunc(y, func(g string) bool { return below(f, g) || below(g, f) })
	})
}

// excludes reports whether one condition has what the other negates, or compares the same with another constant.
func excludes(a, b *branch) bool {
	for _, x := range a.Body {
		for _, y := range b.Body {
			if negates(x, y) || otherConstant(a, b, x, y) {
				return true
			}
		}
	}
	return false
}

func otherConstant(a, b *branch, x, y *ast.Expr) bool {
	f, v := a.pinned(x)
	g, w := b.pinned(y)
	return f != "" && f == g && v.Value.Compare(w.Value) != 0
}

// pinned is the place that a condition holds equal to a constant.
func (b *branch) pinned(e *ast.Expr) (string, *ast.Term) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok || e.Negated || len(terms) != 3 || !equality[operator(terms[0])] {
		return "", nil
	}
	for i := 1; i <= 2; i++ {
		field, value := b.field(terms[i]), b.resolve(terms[3-i])
		if strings.HasPrefix(field, "input.") && !strings.HasSuffix(field, ".") && isScalar(value) {
			return field, value
		}
	}
	return "", nil
}

func isScalar(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.String, ast.Number, ast.Boolean:
		return true
	}
	return false
}

// implies reports whether each condition of b is one of a.
func implies(a, b *branch) bool {
	for _, y := range b.Body {
		if !isTrue(y) && !slices.ContainsFunc(a.Body, func(x *ast.Expr) bool { return x.Negated == y.Negated && sameTerms(x, y) }) {
			return false
		}
	}
	return true
}

// besides are the conditions of a that b does not have. Those that give variables a value stay.
func besides(a, b *branch) (body ast.Body) {
	for _, x := range a.Body {
		if gives(x) || !slices.ContainsFunc(b.Body, func(y *ast.Expr) bool { return x.Negated == y.Negated && sameTerms(x, y) }) {
			body = append(body, x)
		}
	}
	return body
}

func gives(e *ast.Expr) bool {
	terms, ok := e.Terms.([]*ast.Term)
	return binds(e) || ok && operator(terms[0]) == "eq"
}

// bearing is where places of input count as what they bear on: what is known of a subject depends on its type, and
// strangers have nothing but that.
var bearing = map[string]string{
	"input.subject.type":           "input.subject",
	"input.subject.id":             "input.subject",
	"input.subject.email_verified": "input.subject.email",
	"input.action.name":            "input.action",
	"input.action.method":          "input.action",
	"input.action.upgrade":         "input.action",
	"input.resource.segments":      "input.resource.path",
	"input.context.time_ns":        "input.context.time",
	"input.context.hour":           "input.context.time.hour",
	"input.context.weekday":        "input.context.time.weekday",
	"input.context.client.ip":      "input.context.client",
	"input.context.client.zone":    "input.context.client",
	"input.context.client.country": "input.context.client",
}

// settled are the places that are the same in each request for one app.
var settled = map[string]bool{
	"input.resource.type": true, "input.resource.id": true, "input.resource.labels": true, "input.resource.sensitivity": true,
	"input.resource.owner": true,
}

// places are what a body itself reads, with one for each group that it asks for by name, as who is in one may be in
// another. They are nil when not all is known here: it asks other rules, or for what is settled before the request.
func (b *branch) places(body ast.Body) (list []string) {
	for _, e := range body {
		if group, ok := b.membership(e); ok {
			list = append(list, groupsField+"."+group)
			continue
		}
		read, ok := b.reads(e)
		if !ok {
			return nil
		}
		list = append(list, read...)
	}
	return list
}

// membership is the group that a condition asks for by name.
func (b *branch) membership(e *ast.Expr) (group string, ok bool) {
	terms, call := e.Terms.([]*ast.Term)
	if !call || len(terms) != 3 || operator(terms[0]) != "internal.member_2" || b.field(terms[2]) != groupsField {
		return "", false
	}
	return text(b.resolve(terms[1]))
}

// reads are the places of input in a condition; false if it reads something else besides.
func (b *branch) reads(e *ast.Expr) (list []string, ok bool) {
	ok = true
	ast.WalkTerms(e, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case ast.Ref, ast.Var:
		default:
			return false
		}
		place := strings.TrimSuffix(b.field(t), ".")
		switch {
		case strings.HasPrefix(place, "input."):
			list = append(list, bears(place))
			ok = ok && !settled[strings.Join(firstWords(place, 3), ".")]
			return true
		case strings.HasPrefix(place, "data."), place == "input":
			ok = false
		}
		return false
	})
	return list, ok
}

func bears(place string) string {
	for _, n := range []int{4, 3} {
		if on, ok := bearing[strings.Join(firstWords(place, n), ".")]; ok {
			return on
		}
	}
	return place
}

func firstWords(place string, n int) []string {
	words := strings.Split(place, ".")
	return words[:min(n, len(words))]
}
