package lint

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy/schema"
)

// shape is what the schema of decisions says of one place.
type shape struct {
	Type       string           `json:"type"`
	Properties map[string]shape `json:"properties"`
	Required   []string         `json:"required"`
	Items      *shape           `json:"items"`
	Additional json.RawMessage  `json:"additionalProperties"`
}

// findShape tells decisions that the gateway cannot read, each of which denies.
func findShape(p *pass) {
	want := decisionShape()
	p.objects(func(b *branch, decision ast.Object, at *ast.Location) {
		p.fits(b, "decision", ast.NewTerm(decision), want, at)
	})
	for _, app := range p.apps {
		for _, b := range p.answers[app] {
			p.fitsPart(b, want)
		}
	}
}

func decisionShape() *shape {
	text, err := json.Marshal(schema.Decision())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s := new(shape)
	if err := json.Unmarshal(text, s); err != nil {
		panic("BUG: " + err.Error())
	}
	return s
}

// fitsPart looks at a decision that is no object, or a part of one such as decision.allow.
func (p *pass) fitsPart(b *branch, want *shape) {
	ref := b.Head.Ref()
	switch {
	case len(ref) == 1 && b.Head.Value != nil && (isScalar(b.resolve(b.Head.Value)) || isList(b.resolve(b.Head.Value))):
		p.at(b.Head.Location, `write {"allow": true}`, "the decision is %s, and denies: it has to be an object with allow", kindOf(b.resolve(b.Head.Value)))
	case len(ref) == 2:
		name, ok := text(ref[1])
		part, known := want.Properties[name]
		switch {
		case ok && !known:
			p.at(b.Head.Location, suggestion(name, names(want)), "a decision has no field %q, and denies with it", name)
		case ok && b.Head.Value != nil:
			p.fits(b, "decision."+name, b.Head.Value, &part, b.Head.Location)
		}
	}
}

// fits compares a constant, as far as it is one, with what is wanted.
func (p *pass) fits(b *branch, path string, t *ast.Term, want *shape, at *ast.Location) {
	if t.Location != nil && t.Location.Row > 0 {
		at = t.Location
	}
	t = b.resolve(t)
	got := kindOf(t)
	if got == "" {
		return
	}
	if want.Type != got && !(want.Type == "array" && got == "set") && !(want.Type == "integer" && isWhole(t)) {
		p.at(at, "", "%s is %s, and has to be %s: the decision denies", path, article(got), article(want.Type))
		return
	}
	switch v := t.Value.(type) {
	case ast.Object:
		p.fitsObject(b, path, v, want, at)
	case *ast.Array:
		v.Foreach(func(e *ast.Term) { p.fits(b, path+"[]", e, want.Items, at) })
	case ast.Set:
		v.Foreach(func(e *ast.Term) { p.fits(b, path+"[]", e, want.Items, at) })
	}
}

func (p *pass) fitsObject(b *branch, path string, o ast.Object, want *shape, at *ast.Location) {
	given := make(map[string]bool)
	o.Foreach(func(k, v *ast.Term) {
		name, ok := text(k)
		if !ok {
			return
		}
		given[name] = true
		if want.Properties == nil {
			var values shape
			if json.Unmarshal(want.Additional, &values) == nil && values.Type != "" {
				p.fits(b, path+"."+name, v, &values, at)
			}
			return
		}
		part, known := want.Properties[name]
		if !known {
			place := at
			if k.Location != nil && k.Location.Row > 0 {
				place = k.Location
			}
			p.at(place, suggestion(name, names(want)), "%s has no field %q: the decision denies", path, name)
			return
		}
		p.fits(b, path+"."+name, v, &part, at)
	})
	if !slices.ContainsFunc(o.Keys(), func(k *ast.Term) bool { return !isScalar(k) }) {
		for _, name := range want.Required {
			if !given[name] && (name == "allow" || name == "type") {
				p.at(at, "", "%s has no %s: the decision denies", path, name)
			}
		}
	}
}

func names(s *shape) []string { return slices.Sorted(maps.Keys(s.Properties)) }

func isList(t *ast.Term) bool {
	k := kindOf(t)
	return k == "array" || k == "set"
}

// kindOf is the type of a constant in the words of JSON Schema; empty for what is none.
func kindOf(t *ast.Term) string {
	switch t.Value.(type) {
	case ast.Boolean:
		return "boolean"
	case ast.String:
		return "string"
	case ast.Number:
		return "number"
	case ast.Null:
		return "null"
	case ast.Object:
		return "object"
	case *ast.Array, *ast.ArrayComprehension:
		return "array"
	case ast.Set, *ast.SetComprehension:
		return "set"
	}
	return ""
}

func isWhole(t *ast.Term) bool {
	n, ok := t.Value.(ast.Number)
	if !ok {
		return false
	}
	i, whole := n.Int64()
	return whole && i >= 0
}

func article(kind string) string {
	switch kind {
	case "boolean":
		return "true or false"
	case "null":
		return kind
	case "integer":
		return "a whole number"
	case "array":
		return "a list"
	}
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + kind
	}
	return fmt.Sprintf("a %s", kind)
}
