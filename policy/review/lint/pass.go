package lint

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// pass is one check.
type pass struct {
	*Subject
	ctx      context.Context
	modules  map[string]*ast.Module // that parse, shipped ones included
	unparsed policy.Problems        // why the others do not
	names    []string               // of the operator's modules, sorted
	answered map[string]map[int][]string
	*program

	outcome *compiled
	rule    *rule // that is running
	found   []Finding
}

func newPass(ctx context.Context, s *Subject) *pass {
	p := &pass{Subject: s, ctx: ctx}
	p.modules, p.unparsed = policy.ParseSources(s.Sources)
	for _, source := range s.Sources {
		if p.modules[source.Name] != nil && source.Operators() {
			p.names = append(p.names, source.Name)
		}
	}
	slices.Sort(p.names)
	p.program = newProgram(p.modules, p.names)
	p.answered = answers(p.modules)
	return p
}

// add notes a finding of the running rule.
func (p *pass) add(f Finding) {
	f.Rule = p.rule.ID
	if f.Severity == "" {
		f.Severity = p.rule.Severity
	}
	if f.Line > 0 {
		f.Column = max(f.Column, 1) // the end of a file has none
	}
	p.found = append(p.found, f)
}

// at notes a finding at a place in Rego; hint may be empty.
func (p *pass) at(at *ast.Location, hint, format string, args ...any) {
	f := Finding{Text: fmt.Sprintf(format, args...), Hint: hint}
	if at != nil {
		f.Position = Position{at.File, at.Row, at.Col}
	}
	p.add(f)
}

// access notes a finding about a key of an access rule, and returns it until the next one; a rule below 0 is the app.
func (p *pass) access(app *policy.App, place int, key, hint, format string, args ...any) *Finding {
	name := "app " + app.Name
	if place >= 0 {
		name = fmt.Sprintf("rule %s of app %s", app.Access.ID(place), app.Name)
	}
	f := Finding{App: app.Name, Text: name + ": " + fmt.Sprintf(format, args...), Hint: hint}
	if p.Places != nil {
		f.Position = p.Places.of(app.Name, place, key)
	}
	p.add(f)
	return &p.found[len(p.found)-1]
}

// locate turns the name of an operator's module into the name of a file.
func (p *pass) locate(f *Finding) {
	name, operators := policy.Source{Name: f.File}.OperatorName()
	if operators && p.Folder != "" {
		f.File = filepath.Join(p.Folder, filepath.FromSlash(name))
	}
}

// ignoreMark begins a comment that answers a finding.
const ignoreMark = "sallyport:ignore "

// answeredBy is the rule that a comment answers, with a reason; empty if it is another comment.
func answeredBy(comment string) string {
	said, marked := strings.CutPrefix(strings.TrimSpace(comment), ignoreMark)
	id, why, _ := strings.Cut(said, ":")
	if !marked || strings.TrimSpace(why) == "" {
		return ""
	}
	return strings.TrimSpace(id)
}

// answers are the rules that comments in Rego answer, by file and line.
func answers(modules map[string]*ast.Module) map[string]map[int][]string {
	all := make(map[string]map[int][]string)
	for name, m := range modules {
		all[name] = make(map[int][]string)
		for _, c := range m.Comments {
			if id := answeredBy(string(c.Text)); id != "" {
				all[name][c.Location.Row] = append(all[name][c.Location.Row], id)
			}
		}
	}
	return all
}

// ignores reports whether a comment in the line of a finding, or in the one before, answers it. Errors stand.
func (p *pass) ignores(f *Finding) bool {
	lines := p.answered[f.File]
	if p.Places != nil && f.File == p.Places.file {
		lines = p.Places.answered
	}
	return f.Severity != Error && (contains(lines[f.Line], f.Rule) || contains(lines[f.Line-1], f.Rule))
}
