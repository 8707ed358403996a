// Package explain tells how a policy comes to its answer to one request: the rules it may be given by, what each of them
// demands, what the request had to show, and the smallest change of the request that would be allowed. For does the work;
// the result prints itself for people and as Markdown, marshals for programs, and Public is the little of it that the
// person may know who was refused.
//
// An explanation is made beside a decision, never to make one. It costs some hundred evaluations at most.
package explain

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/condition"
)

// Explanation is why a request is answered as it is.
type Explanation struct {
	Policy   string          `json:"policy"`            // the digest
	Revision string          `json:"revision"`          // as people know it
	App      string          `json:"app"`               // its name
	Request  string          `json:"request"`           // method and path
	Who      string          `json:"who"`               // as people know them
	Answer   Answer          `json:"answer"`            // what the gateway does
	Reason   string          `json:"reason"`            // as the record has it
	Decision json.RawMessage `json:"decision"`          // the policy's own document
	Decides  string          `json:"decides"`           // what decides about the app, in words
	Rules    []Rule          `json:"rules"`             // those that may, in the order in which they are asked
	Nearest  *Nearest        `json:"nearest,omitempty"` // absent: it is allowed, or nothing was found
	Problem  string          `json:"problem,omitempty"` // why the rules could not be followed to the end
	Access   []Rule          `json:"access,omitempty"`  // the app's access rules, where its own package asks them
	Record   *Record         `json:"record,omitempty"`  // what is explained, when it is on record

	public []string
}

// Record is the decision that was taken on the request.
type Record struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Effect string    `json:"effect"` // allow or deny
	Reason string    `json:"reason"`
	Policy string    `json:"policy"` // the digest of the one that decided
}

// differs reports whether the answer on record is another one than the explained policy's.
func (x *Explanation) differs() bool {
	return x.Record != nil && (x.Record.Reason != x.Reason || (x.Record.Effect == string(Allow)) != (x.Answer == Allow))
}

// Answer is what the gateway does with a request.
type Answer string

// The answers.
const (
	Allow  Answer = "allow"
	Deny   Answer = "deny"
	StepUp Answer = "step_up" // sign in again, and better
	SignIn Answer = "sign_in"
)

// AnswerOf is what the gateway does about a verdict.
func AnswerOf(v *policy.Verdict) Answer {
	switch {
	case v.Allow:
		return Allow
	case v.Reason == policy.ReasonStepUp:
		return StepUp
	case v.Reason == policy.ReasonUnauthenticated:
		return SignIn
	}
	return Deny
}

// Position is a place in a file; Line 0 is the file as a whole, and File "" is none that is known.
type Position struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Rule is a rule that may decide, or that one of those asks.
type Rule struct {
	ID         string      `json:"id"`             // access/1, or its text
	Text       string      `json:"text,omitempty"` // what it is for, where its author says so
	At         Position    `json:"at,omitzero"`
	Outcome    Outcome     `json:"outcome"`
	Conditions []Condition `json:"conditions"`
}

// Outcome is what came of a rule.
type Outcome string

// The outcomes.
const (
	Grants  Outcome = "grants"  // the access rule that decides, and allows
	Refuses Outcome = "refuses" // the access rule that decides, and does not allow
	Passed  Outcome = "passed"  // an access rule that is for other requests
	Late    Outcome = "late"    // an access rule that an earlier one leaves nothing to decide
	Holds   Outcome = "holds"   // a rule in Rego whose conditions are met
	Fails   Outcome = "fails"   // a rule in Rego with a condition that is not
)

// Condition is something that a rule demands.
type Condition struct {
	Text  string           `json:"text"`
	Truth Truth            `json:"truth"`
	Got   []condition.Fact `json:"got,omitempty"` // what the request had to show
	At    Position         `json:"at,omitzero"`
	Rules []Rule           `json:"rules,omitempty"` // which it asks
}

// Truth is whether a condition is met.
type Truth string

// The truths.
const (
	Yes      Truth = "yes"
	No       Truth = "no"
	NotAsked Truth = "not_asked" // an earlier condition settled it
)

// Options tell what an explanation cannot see in the policy.
type Options struct {
	// Rule is where an app's access rule stands, by its place from 0. Default: nobody knows.
	Rule func(app string, place int) Position
	// File is how people call a module of the bundle, such as operator/wiki.rego. Default: without its first folder.
	File func(module string) string
}

// For explains the answer to a request under a policy.
func For(ctx context.Context, e *policy.Engine, in *policy.Input, options Options) (*Explanation, error) {
	s, err := About(e, in.Resource.ID, options)
	if err != nil {
		return nil, err
	}
	return s.Explain(ctx, in), nil
}

// About prepares to explain answers about an app under a policy. The error says that the policy does not know the app.
func About(e *policy.Engine, app string, options Options) (s *Subject, err error) {
	s = &Subject{engine: e, options: options}
	if s.app, err = e.Bundle().App(app); err != nil {
		return nil, fmt.Errorf("explaining a decision: %w", err)
	}
	if s.zone, err = e.Bundle().Zone(); err != nil {
		return nil, fmt.Errorf("explaining a decision: %w", err)
	}
	return s, nil
}

// Explain explains the answer to a request of the app.
func (s *Subject) Explain(ctx context.Context, in *policy.Input) *Explanation {
	v := s.decide(ctx, in)
	x := &Explanation{
		Policy: s.engine.Digest(), Revision: s.engine.Revision(), App: s.app.Name, Request: request(in), Who: who(&in.Subject),
		Answer: AnswerOf(v), Reason: v.Reason, Decision: v.JSON,
	}
	s.rules(ctx, x, in)
	if g := s.guard(v); g != nil {
		x.Decides = g.decides
	}
	if !v.Allow {
		x.Nearest = s.nearest(ctx, in, v, nil)
	}
	x.public = public(v, x.Nearest)
	return x
}

func request(in *policy.Input) string {
	if in.Action.Upgrade != "" {
		return in.Action.Upgrade + " " + in.Resource.Path
	}
	return in.Action.Method + " " + in.Resource.Path
}

func who(s *policy.Subject) string {
	switch {
	case s.Email != "":
		return s.Email
	case s.ID != "":
		return s.ID
	}
	return s.Type
}

// rules fills in the rules that may decide.
func (s *Subject) rules(ctx context.Context, x *Explanation, in *policy.Input) {
	switch {
	case crossOrigin(in):
		x.Decides = "no page of another origin opens a WebSocket, whatever the rules say"
	case s.engine.Own(s.app.Name):
		x.Decides = "the app's own package, " + ownPackage(s.app.Name)
		seen := s.observe(ctx, in)
		x.Rules = s.tree(seen)
		if seen.err != nil {
			x.Problem = seen.err.Error()
		}
		if seen.access {
			x.Access = s.accessRules(in)
		}
	default:
		x.Decides = "the app's access rules: the first whose paths and methods match"
		x.Rules = s.accessRules(in)
	}
}

func crossOrigin(in *policy.Input) bool {
	return in.Action.Name == policy.ActionConnect && in.Context.Request.CrossOrigin
}

// guard is something by which the shipped policy refuses what rules and packages allow.
type guard struct {
	code    string // of its denial
	decides string // in words
	on      func(app *policy.App) bool
}

var guards = []guard{
	{"client_certificate", "the app demands a client certificate (client_certs), whatever its rules say",
		func(app *policy.App) bool { return app.ClientCert }},
	{"provider", "the app is for people of other identity providers (providers), whatever its rules say",
		func(app *policy.App) bool { return len(app.Providers) > 0 }},
	{"token_scope", "the token is not good for this app or method, whatever the app's rules say",
		func(*policy.App) bool { return true }},
	{"cross_site", "the app admits no request of another site's page that may change something (cross_site), whatever its rules say",
		func(app *policy.App) bool { return !app.CrossSite }},
	{"shield", "the app refuses what inspection finds hostile (shield.threshold), whatever its rules say",
		func(app *policy.App) bool { return app.ShieldThreshold > 0 }},
	{"shield_timeout", "the app refuses what could not be inspected in time (shield.mode: block), whatever its rules say",
		func(app *policy.App) bool { return app.ShieldThreshold > 0 }},
}

// guard is the one that gave an answer; nil if none did.
func (s *Subject) guard(v *policy.Verdict) *guard {
	if v.Reason != policy.ReasonPolicy || len(v.Decision.Reasons) != 1 || v.Decision.Reasons[0].Rule != "" {
		return nil
	}
	i := slices.IndexFunc(guards, func(g guard) bool { return g.code == v.Decision.Reasons[0].Code && g.on(s.app) })
	if i < 0 {
		return nil
	}
	return &guards[i]
}

func ownPackage(app string) string { return fmt.Sprintf("sallyport.app[%q]", app) }

// accessRules are the app's access rules with what each makes of the request.
func (s *Subject) accessRules(in *policy.Input) []Rule {
	list := make([]Rule, 0, len(s.app.Access))
	decided := false
	for i := range s.app.Access {
		r := Rule{ID: s.app.Access.ID(i), Conditions: []Condition{}}
		if s.options.Rule != nil {
			r.At = s.options.Rule(s.app.Name, i)
		}
		r.Outcome = s.judge(&r, &s.app.Access[i], in, decided)
		decided = decided || r.Outcome == Grants || r.Outcome == Refuses
		list = append(list, r)
	}
	return list
}

// judge lists the conditions of an access rule and tells what comes of it. Those that say which requests it is for come
// first and settle the rest.
func (s *Subject) judge(r *Rule, rule *policy.Rule, in *policy.Input, decided bool) Outcome {
	matches, met := true, true
	for _, c := range condition.Of(rule, s.zone.String()) {
		shown := Condition{Text: c.Text, Truth: NotAsked}
		if c.Scope() || matches && !decided {
			shown.Truth, shown.Got = No, c.Got(in)
			if c.Holds(in) {
				shown.Truth = Yes
			}
			matches = matches && (!c.Scope() || shown.Truth == Yes)
			met = met && shown.Truth == Yes
		}
		r.Conditions = append(r.Conditions, shown)
	}
	switch {
	case !matches:
		return Passed
	case decided:
		return Late
	case met:
		return Grants
	}
	return Refuses
}
