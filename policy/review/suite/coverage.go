package suite

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"

	"sallyport/policy"
	"sallyport/policy/review/table"
)

// Coverage is which rules were tried: access rules by rows of tables that they decided, rules in Rego by tests and rows
// in which they came to a conclusion. The shipped Rego has tests of its own.
type Coverage struct {
	Percent float64 `json:"percent"` // of the rules that were tried
	Rules   []Rule  `json:"rules"`
}

// Missed are the rules that nothing tried.
func (c *Coverage) Missed() []Rule {
	return slices.DeleteFunc(slices.Clone(c.Rules), func(r Rule) bool { return r.Tried })
}

// Rule is one rule: an access rule has an app and an id, one in Rego a file and a line.
type Rule struct {
	App   string `json:"app,omitempty"`
	ID    string `json:"id"` // in Rego: its package and name
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	Tried bool   `json:"tried"`

	Allowed int `json:"allowed,omitempty"` // requests of tables that an access rule allowed
	Refused int `json:"refused,omitempty"` // and refused

	Percent float64 `json:"percent"`               // of the expressions of a rule in Rego; an access rule: 0 or 100
	Lines   []int   `json:"lines_missed,omitzero"` // of a rule in Rego that nothing reached
}

// String names the rule to people.
func (r *Rule) String() string {
	if r.App != "" {
		return "app " + r.App + ", access rule " + r.ID
	}
	return r.Place() + ": " + r.ID
}

// Place is the file and line of a rule in Rego.
func (r *Rule) Place() string {
	if r.File == "" {
		return ""
	}
	return r.File + ":" + strconv.Itoa(r.Line)
}

func (s *Suite) coverage(e *policy.Engine, rows *table.Results, covered *cover.Cover) (*Coverage, error) {
	c := &Coverage{Rules: []Rule{}}
	rules, err := accessRules(e, rows)
	if err != nil {
		return nil, err
	}
	c.Rules = append(c.Rules, rules...)
	if rules, err = s.regoRules(e.Bundle(), covered); err != nil {
		return nil, err
	}
	c.Rules = append(c.Rules, rules...)
	c.Percent = percent(len(c.Rules)-len(c.Missed()), len(c.Rules))
	return c, nil
}

func accessRules(e *policy.Engine, rows *table.Results) ([]Rule, error) {
	var rules []Rule
	for _, name := range e.Apps() {
		app, err := e.Bundle().App(name)
		if err != nil {
			return nil, err
		}
		for place := range app.Access {
			rules = append(rules, accessRule(name, app.Access.ID(place), rows))
		}
	}
	return rules, nil
}

func accessRule(app, id string, rows *table.Results) Rule {
	r := Rule{App: app, ID: id}
	for i := range rows.Cases {
		c := &rows.Cases[i]
		if c.App != app || !c.DecidedBy(id) {
			continue
		}
		if c.Verdict.Allow {
			r.Allowed++
		} else {
			r.Refused++
		}
	}
	if r.Tried = r.Allowed+r.Refused > 0; r.Tried {
		r.Percent = 100
	}
	return r
}

// regoRules are the rules of the operator's modules.
func (s *Suite) regoRules(b *policy.Bundle, covered *cover.Cover) ([]Rule, error) {
	tests, err := b.WithTests(nil) // the modules as they were written
	if err != nil {
		return nil, err
	}
	own := map[string]*ast.Module{}
	shown := map[string]string{} // as people know the files
	for _, source := range b.Sources() {
		if name, operators := source.OperatorName(); operators {
			own[source.Name] = tests.Modules[source.Name]
			shown[source.Name] = filepath.Join(s.base, filepath.FromSlash(name))
		}
	}
	report := covered.Report(own)
	var rules []Rule
	for _, name := range slices.Sorted(maps.Keys(own)) {
		for _, r := range own[name].Rules {
			for ; r != nil; r = r.Else {
				rules = append(rules, regoRule(shown[name], r, report.Files[name]))
			}
		}
	}
	return rules, nil
}

// regoRule is one rule, or one branch of it: what stands after else counts for itself.
func regoRule(file string, branch *ast.Rule, report *cover.FileReport) Rule {
	r := *branch
	r.Else = nil
	rule := Rule{ID: strings.TrimPrefix(branch.Ref().GroundPrefix().String(), "data."), File: file, Line: branch.Location.Row}
	missed := func(at *ast.Location) bool {
		start := cover.Position{Row: at.Row, Col: at.Col}
		return slices.ContainsFunc(report.NotCovered, func(n cover.Range) bool { return n.Start == start })
	}
	places, misses := 0, 0
	look := func(at *ast.Location) {
		places++
		if missed(at) {
			misses++
			rule.Lines = append(rule.Lines, at.Row)
		}
	}
	look(r.Head.Location)
	ast.WalkExprs(&r, func(x *ast.Expr) bool {
		if _, declares := x.Terms.(*ast.SomeDecl); !declares && x.Location.HasFile() {
			look(x.Location)
		}
		return false
	})
	slices.Sort(rule.Lines)
	rule.Lines = slices.Compact(rule.Lines)
	rule.Tried, rule.Percent = !missed(r.Head.Location), percent(places-misses, places)
	return rule
}
