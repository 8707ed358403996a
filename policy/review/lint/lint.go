// Package lint finds what is wrong with a policy before anybody is let in or kept out by it: Rego that does not compile,
// that reads what no request has or answers what no gateway carries out, and the mistakes that access policies are known
// for. Access rules of the configuration are looked at too.
//
// Check works on sources, so that a policy that cannot run yet gets all of its findings at once. Each rule explains
// itself, with a bad and a good example (Rules, Explain). What a rule takes for a mistake may be meant: a comment
// "# sallyport:ignore RULE: why" in the line before, or at the end of the line, says so.
package lint

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"sallyport/policy"
	"sallyport/policy/review/directory"
)

// Severity says how much a finding matters.
type Severity string

const (
	// Error is a policy that cannot run or cannot mean what it says. It must not become active.
	Error Severity = "error"
	// Warning is a policy that runs, and probably lets in or keeps out somebody that its author did not think of.
	Warning Severity = "warning"
	// Note is what a reader, an operator or the next author would like to be better.
	Note Severity = "note"
)

// Severities are all severities, the gravest first.
func Severities() []Severity { return []Severity{Error, Warning, Note} }

// AtLeast reports whether a severity is as grave as another one.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(Severities(), s) <= slices.Index(Severities(), other)
}

// Position is a place in a file of the operator's.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`   // from 1; 0 when it concerns the file as a whole
	Column int    `json:"column"` // from 1
}

// Finding is one thing that a rule found.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Position
	App  string `json:"app,omitempty"` // whose access rule it is about
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"` // what to do about it
}

// Report is everything found, in the order of files and lines.
type Report struct {
	Findings []Finding `json:"findings"`
	Ignored  int       `json:"ignored"` // findings that comments in the policy answer
}

// Count is the number of findings of a severity.
func (r *Report) Count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Worst are the findings that are at least so grave.
func (r *Report) Worst(s Severity) (list []Finding) {
	for _, f := range r.Findings {
		if f.Severity.AtLeast(s) {
			list = append(list, f)
		}
	}
	return list
}

// Subject is what Check looks at. Only Sources must be there; whatever else is not known is not judged.
type Subject struct {
	// Sources are the policy's Rego, the shipped modules included, as policy.ReadSources and Bundle.Sources have them.
	Sources []policy.Source
	// Folder is where the operator's files lie, for positions. Empty: positions name files as the bundle does.
	Folder string
	// Apps are all apps, with their access rules. Nil: not known.
	Apps []policy.App
	// Problems are what is wrong with the configuration.
	Problems policy.Problems
	// Places are where the configuration says what. Nil: findings name app and rule alone.
	Places *Places
	// Directory says which groups there are. Nil: not known.
	Directory *directory.Directory
	// Enforced are the obligations that the gateway carries out besides step_up. Nil: not known.
	Enforced []string
	// Engine, if the policy compiles, tells what is remembered. Nil: not judged.
	Engine *policy.Engine
	// Tested are the apps that tests or tables try. Nil: not known.
	Tested []string
}

// Check finds what is wrong. It never fails: what cannot be read is a finding.
func Check(ctx context.Context, s Subject) *Report {
	p := newPass(ctx, &s)
	for i := range rules {
		if ctx.Err() != nil {
			break
		}
		p.run(&rules[i])
	}
	return p.report()
}

// run lets one rule look. A rule that fails is a fault of ours, which must not take a gateway down that checks a policy.
func (p *pass) run(r *rule) {
	p.rule = r
	defer func() {
		if fault := recover(); fault != nil {
			p.add(Finding{Severity: Note, Text: fmt.Sprintf("%s: %v", brokenRule, fault)})
		}
	}()
	r.find(p)
}

// brokenRule begins the finding about a rule that failed.
const brokenRule = "BUG: the rule could not be applied"

// report orders the findings and drops what comments answer and what is there twice.
func (p *pass) report() *Report {
	r := &Report{Findings: []Finding{}}
	for _, f := range p.found {
		if p.ignores(&f) {
			r.Ignored++
			continue
		}
		p.locate(&f)
		r.Findings = append(r.Findings, f)
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule))
	})
	r.Findings = slices.Compact(r.Findings)
	return r
}
