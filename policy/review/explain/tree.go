package explain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
	"sallyport/policy/review/condition"
)

// source is a rule as its author wrote it.
type source struct {
	rule        *ast.Rule
	id, purpose string
}

// written is the rule that was compiled into r.
func (s *Subject) written(r *ast.Rule) source {
	if s.sources == nil {
		s.sources = map[string][]source{}
		modules, _ := policy.ParseSources(s.engine.Bundle().Sources()) // it compiled: there are no problems
		for name, m := range modules {
			s.sources[name] = sourcesOf(m)
		}
	}
	for _, w := range s.sources[r.Location.File] {
		if w.rule.Location.Offset == r.Location.Offset {
			return w
		}
	}
	return source{rule: r}
}

// sourcesOf are the rules of a module, with what their annotations say.
func sourcesOf(m *ast.Module) []source {
	var list []source
	for _, r := range m.Rules {
		for ; r != nil; r = r.Else {
			w := source{rule: r}
			for _, a := range m.Annotations {
				if end := a.EndLoc(); end != nil && end.Row+1 == r.Location.Row {
					w.purpose = strings.TrimSpace(first(a.Title, a.Description))
					w.id, _ = a.Custom["id"].(string)
				}
			}
			list = append(list, w)
		}
	}
	return list
}

func first(texts ...string) string {
	i := slices.IndexFunc(texts, func(t string) bool { return t != "" })
	if i < 0 {
		return ""
	}
	return texts[i]
}

// tree is what was seen, for people.
func (s *Subject) tree(o *observation) []Rule { return s.shown(o.tops) }

// shown are rules that were asked, each once: as it held, if it did.
func (s *Subject) shown(list []*asked) []Rule {
	best := map[*ast.Rule]*asked{}
	for _, a := range list {
		if had := best[a.rule]; had == nil || !had.holds && (a.holds || a.reach > had.reach) {
			best[a.rule] = a
		}
	}
	rules := []Rule{}
	for _, a := range list {
		if best[a.rule] == a && !a.rule.Default {
			rules = append(rules, s.ruleOf(a))
		}
	}
	return rules
}

func (s *Subject) ruleOf(a *asked) Rule {
	w := s.written(a.rule)
	r := Rule{ID: first(w.id, head(w.rule)), Text: w.purpose, At: s.at(a.rule.Location), Outcome: Fails}
	if a.holds {
		r.Outcome = Holds
	}
	r.Conditions = s.conditionsOf(a, w.rule)
	return r
}

// head is the first line of a rule, up to its conditions.
func head(r *ast.Rule) string {
	line, _, _ := strings.Cut(string(r.Location.Text), "\n")
	line, _, conditional := strings.Cut(line, " if ")
	line = strings.TrimSpace(line)
	if !conditional && strings.HasSuffix(line, "{") { // a document of several lines
		line += "…}"
	}
	return cut(line)
}

func (s *Subject) at(l *ast.Location) Position {
	name := strings.TrimPrefix(l.File, "operator/")
	if s.options.File != nil {
		name = s.options.File(l.File)
	}
	return Position{File: name, Line: l.Row}
}

// conditionsOf are the conditions that a rule's author wrote. The compiler makes several expressions of one and moves
// them about; each belongs to the condition whose text it was made of.
func (s *Subject) conditionsOf(a *asked, written *ast.Rule) []Condition {
	list := []Condition{}
	for _, e := range written.Body {
		if e.Location == nil || e.Equal(alwaysTrue) {
			continue
		}
		c := Condition{Text: sentence(e.Location), Truth: Yes, At: s.at(e.Location)}
		var parts []*ast.Expr
		for _, part := range a.rule.Body {
			if within(part.Location, e.Location) {
				parts = append(parts, part)
			}
		}
		s.fill(&c, a, parts)
		list = append(list, c)
	}
	return list
}

var alwaysTrue = ast.NewExpr(ast.BooleanTerm(true))

func within(part, whole *ast.Location) bool {
	return part != nil && part.Offset >= whole.Offset && part.Offset < whole.Offset+len(whole.Text)
}

// fill tells what came of a condition.
func (s *Subject) fill(c *Condition, a *asked, parts []*ast.Expr) {
	for _, part := range parts {
		switch {
		case a.holds, part.Index < a.reach:
		case part.Index == a.reach:
			c.Truth = No
		case c.Truth == Yes:
			c.Truth = NotAsked
		}
		c.Rules = append(c.Rules, s.shown(a.asks[part.Index])...)
	}
	if c.Truth != NotAsked {
		c.Got = s.facts(a, parts)
	}
}

// facts are the documents and variables that a condition reads, as far as the evaluation saw them.
func (s *Subject) facts(a *asked, parts []*ast.Expr) []condition.Fact {
	var list []condition.Fact
	for _, part := range parts {
		ast.WalkRefs(part, func(r ast.Ref) bool {
			if r.HasPrefix(ast.InputRootRef) && len(r) > 1 {
				list = addFact(list, condition.Fact{Field: name(r), Value: words(a.of.field(name(r)))})
			}
			return false
		})
		ast.WalkVars(part, func(v ast.Var) bool {
			if written, is := s.engine.Compiler().RewrittenVars[v]; is && a.local(v) != nil {
				list = addFact(list, condition.Fact{Field: string(written), Value: cut(a.local(v).String())})
			}
			return false
		})
	}
	return list
}

func addFact(list []condition.Fact, f condition.Fact) []condition.Fact {
	if slices.ContainsFunc(list, func(had condition.Fact) bool { return had.Field == f.Field }) {
		return list
	}
	return append(list, f)
}

// name is the constant part of a reference, without its root.
func name(r ast.Ref) string {
	var words []string
	for _, t := range r[1:] {
		text, is := t.Value.(ast.String)
		if !is {
			break
		}
		words = append(words, string(text))
	}
	return strings.Join(words, ".")
}

// words are a JSON value for people.
func words(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return cut(v)
	case []any:
		if len(v) == 0 {
			return "none"
		}
		list := make([]string, 0, len(v))
		for _, e := range v {
			list = append(list, words(e))
		}
		return cut(strings.Join(list, ", "))
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return cut(string(b))
}

// maxText bounds one text, in bytes.
const maxText = 200

func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// sentence is a condition's text on one line.
func sentence(l *ast.Location) string {
	return cut(string(bytes.Join(bytes.Fields(l.Text), []byte(" "))))
}
