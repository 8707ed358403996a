// Package access answers who may open an app, and what somebody may open. What is not asked about stays a condition: a
// grant says by which rule, for which requests, and what the sign-in, the time and the place must be.
//
// An app's access rules are read one by one. An app with a package of its own is evaluated in part, with the person or
// the circumstances unknown, for the conditions, and searched with explain for whoever can meet them: what is listed was
// tried and is allowed. The search is bounded, so that whoever a package admits under conditions that it cannot find is
// missing; Answer.Searched says when that may be so.
package access

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/condition"
	"sallyport/policy/review/explain"
)

// Question is what is asked about; zero fields stay open.
type Question struct {
	App    string
	Method string
	Path   string
}

// Answer is who may open an app.
type Answer struct {
	App      string   `json:"app"`
	Method   string   `json:"method,omitempty"`
	Path     string   `json:"path,omitempty"`
	Own      bool     `json:"own"`      // a package of the app's own decides
	Searched bool     `json:"searched"` // People were searched for in a package: somebody may be missing
	Ways     []Way    `json:"ways"`     // conditions on anybody
	People   []Grant  `json:"people"`   // those who were asked about and can meet one
	Nobody   []string `json:"nobody"`   // those who cannot
}

// Way is one way to be allowed, whoever it is.
type Way struct {
	Rule       string   `json:"rule,omitempty"` // the access rule; empty: the app's package
	Requests   string   `json:"requests"`       // in words
	Who        string   `json:"who,omitempty"`
	Conditions []string `json:"conditions"` // all must hold besides
}

// Grant is what one person may do in one app.
type Grant struct {
	Name       string   `json:"name"`
	ID         string   `json:"id,omitempty"`
	App        string   `json:"app"`
	Rule       string   `json:"rule,omitempty"`
	Requests   string   `json:"requests"`
	Conditions []string `json:"conditions"`
	Example    Example  `json:"example"` // one request that is allowed
}

// Example is a request that a grant allows, under the conditions.
type Example struct {
	Method string `json:"method"`
	Path   string `json:"path"`
}

// Person is somebody to ask about.
type Person struct {
	Name    string
	Subject policy.Subject
}

// Policy answers questions about one policy. It is not safe for concurrent use.
type Policy struct {
	engine *policy.Engine
	base   policy.Context // the circumstances that are given
	given  func(field string) bool
	parts  *policy.Parts // once a package is asked about
	apps   map[string]*app
	zone   *time.Location
}

type app struct {
	*policy.App
	search *explain.Subject
}

// Of prepares questions about a policy. base is the circumstances under which everybody asks, and given tells which fields
// of the input they settle; what is not given stays a condition.
func Of(e *policy.Engine, base policy.Context, given func(field string) bool) (*Policy, error) {
	zone, err := e.Bundle().Zone()
	if err != nil {
		return nil, fmt.Errorf("asking who may open an app: %w", err)
	}
	return &Policy{engine: e, base: base, given: given, apps: map[string]*app{}, zone: zone}, nil
}

func (p *Policy) app(name string) (*app, error) {
	if a := p.apps[name]; a != nil {
		return a, nil
	}
	known, err := p.engine.Bundle().App(name)
	if err != nil {
		return nil, err
	}
	search, err := explain.About(p.engine, name, explain.Options{})
	if err != nil {
		return nil, err
	}
	p.apps[name] = &app{known, search}
	return p.apps[name], nil
}

// WhoCan tells who may do what is asked about, among people and in general.
func (p *Policy) WhoCan(ctx context.Context, q Question, people []Person) (*Answer, error) {
	a, err := p.app(q.App)
	if err != nil {
		return nil, fmt.Errorf("asking who may open an app: %w", err)
	}
	answer := &Answer{App: q.App, Method: q.Method, Path: q.Path, Own: p.engine.Own(q.App), People: []Grant{}, Nobody: []string{}}
	answer.Searched = answer.Own
	if answer.Ways, err = p.ways(ctx, a, q); err != nil {
		return nil, fmt.Errorf("asking who may open an app: %w", err)
	}
	for i := range people {
		grants := p.grants(ctx, a, q, &people[i])
		if len(grants) == 0 {
			answer.Nobody = append(answer.Nobody, people[i].Name)
		}
		answer.People = append(answer.People, grants...)
	}
	return answer, ctx.Err()
}

// WhatCan tells what somebody may do, in every app of the policy.
func (p *Policy) WhatCan(ctx context.Context, who Person) ([]Grant, error) {
	list := []Grant{}
	for _, name := range p.engine.Apps() {
		a, err := p.app(name)
		if err != nil {
			return nil, fmt.Errorf("asking what %s may open: %w", who.Name, err)
		}
		list = append(list, p.grants(ctx, a, Question{App: name}, &who)...)
	}
	return list, ctx.Err()
}

// grants are what a person may do in an app: one for each access rule that admits them, or the nearest that a package
// allows.
func (p *Policy) grants(ctx context.Context, a *app, q Question, who *Person) []Grant {
	if p.engine.Own(a.Name) {
		return p.searched(ctx, a, q, who)
	}
	var list []Grant
	for i := range a.Access {
		if !condition.Admits(&a.Access[i], &who.Subject) {
			continue
		}
		n := a.search.ReachBy(ctx, p.request(a, q, who), i, p.free(q, &who.Subject))
		if n == nil {
			continue
		}
		g := p.granted(a, who, n)
		g.Rule, g.Requests, g.Conditions = a.Access.ID(i), requests(a.Access, i, q), append(p.demands(&a.Access[i]), a.certificate()...)
		list = append(list, g)
	}
	return list
}

// searched is what a package allows a person at two times, which differ in all that policies usually ask about: a condition
// on the time shows at one of them.
func (p *Policy) searched(ctx context.Context, a *app, q Question, who *Person) []Grant {
	if !p.may(ctx, a, q, who) {
		return nil
	}
	var best *Grant
	for _, at := range p.times() {
		in := p.request(a, q, who)
		in.Context.SetTime(at, p.zone)
		n := a.search.Reach(ctx, in, p.free(q, &who.Subject))
		if n == nil {
			continue
		}
		if g := p.granted(a, who, n); best == nil || len(g.Conditions) > len(best.Conditions) {
			best = &g
		}
	}
	if best == nil {
		return nil
	}
	return []Grant{*best}
}

// may reports whether anything remains to be asked of a person, whatever the circumstances. Doubt is for the search.
func (p *Policy) may(ctx context.Context, a *app, q Question, who *Person) bool {
	in := policy.Input{Subject: who.Subject}
	in.Subject.Authn, in.Subject.Session, in.Subject.Device, in.Subject.Cert = nil, nil, nil, nil
	var document map[string]any
	if err := json.Unmarshal(in.AppendJSON(nil), &document); err != nil {
		return true
	}
	unknown := []string{"context", "subject.cert"}
	if who.Subject.Type != policy.TypeAnonymous {
		unknown = append(unknown, "subject.authn", "subject.session", "subject.device")
	}
	r, err := p.remains(ctx, a, q, map[string]any{"subject": document["subject"]}, unknown)
	return err != nil || len(r.Ways) > 0
}

// times are those at which people ask: the one that is given, or a Sunday night and a Wednesday noon.
func (p *Policy) times() []time.Time {
	if p.given("context.time") {
		return []time.Time{time.Unix(0, p.base.TimeNS)}
	}
	return []time.Time{time.Date(2026, 1, 4, 3, 0, 0, 0, p.zone), time.Date(2026, 1, 7, 12, 0, 0, 0, p.zone)}
}

// request is the person asking under the circumstances that are given, and the least favourable otherwise.
func (p *Policy) request(a *app, q Question, who *Person) *policy.Input {
	in := &policy.Input{Subject: who.Subject, Context: p.base}
	if authn := in.Subject.Authn; authn != nil {
		in.Subject.Authn = p.weakest(authn)
	}
	if a.ClientCert {
		in.Subject.Cert = new(policy.Cert)
	}
	method, path := q.Method, q.Path
	if method == "" {
		method = "GET"
	}
	if path == "" {
		path = "/"
	}
	in.Action = policy.Action{Name: policy.ActionName(method, ""), Method: method, Protocol: "HTTP/2.0"}
	in.Resource = policy.Resource{Type: policy.TypeApp, ID: a.Name, Labels: a.Labels, Sensitivity: a.Sensitivity, Owner: a.Owner,
		Path: path, Segments: strings.FieldsFunc(path, func(r rune) bool { return r == '/' })}
	return in
}

// weakest is a sign-in that has only what is given.
func (p *Policy) weakest(authn *policy.Authn) *policy.Authn {
	weak := &policy.Authn{Provider: authn.Provider}
	if p.given("subject.authn.mfa") {
		weak.MFA = authn.MFA
	}
	if p.given("subject.authn.acr") {
		weak.ACR = authn.ACR
	}
	if p.given("subject.authn.age_s") {
		weak.AgeS, weak.Time = authn.AgeS, authn.Time
	}
	return weak
}

// free tells which fields the question leaves open.
func (p *Policy) free(q Question, s *policy.Subject) func(field string) bool {
	return func(field string) bool {
		switch {
		case strings.HasPrefix(field, "action."):
			return q.Method == ""
		case strings.HasPrefix(field, "resource."):
			return q.Path == ""
		}
		stranger := s.Type == policy.TypeAnonymous && strings.HasPrefix(field, "subject.") // who has no sign-in to be strong
		return circumstance(field) && !stranger && !p.given(field)
	}
}

// circumstance reports whether a field says how somebody asks, not who they are.
func circumstance(field string) bool {
	for _, prefix := range circumstances {
		if field == prefix || strings.HasPrefix(field, prefix+".") {
			return true
		}
	}
	return false
}

// circumstances are the places of such fields.
var circumstances = []string{"subject.authn", "subject.session", "subject.device", "subject.cert", "context"}

// granted is what was found for a person.
func (p *Policy) granted(a *app, who *Person, n *explain.Nearest) Grant {
	g := Grant{Name: who.Name, ID: who.Subject.ID, App: a.Name, Rule: n.Rule, Conditions: []string{},
		Example: Example{Method: n.Input.Action.Method, Path: n.Input.Resource.Path}}
	g.Requests = g.Example.Method + " " + g.Example.Path
	for _, c := range n.Changes {
		if circumstance(c.Field) {
			g.Conditions = append(g.Conditions, c.Text)
		}
	}
	g.Conditions = append(g.Conditions, a.certificate()...)
	return g
}

// certificate is what an app demands that opens only to those who show one.
func (a *app) certificate() []string {
	if a.ClientCert {
		return []string{"with a client certificate"}
	}
	return nil
}

// demands are the conditions of an access rule besides what it is for and whom it names, as far as they are open.
func (p *Policy) demands(r *policy.Rule) []string {
	list := []string{}
	for _, c := range condition.Of(r, p.zone.String()) {
		if !c.Scope() && c.Kind != condition.Who && !p.given(fieldOf(c.Kind)) {
			list = append(list, c.Text)
		}
	}
	return list
}

// fieldOf is the field of the input that settles a condition.
func fieldOf(kind condition.Kind) string {
	return map[condition.Kind]string{condition.Hours: "context.time", condition.Network: "context.client.ip", condition.MFA: "subject.authn.mfa",
		condition.ACR: "subject.authn.acr", condition.MaxAge: "subject.authn.age_s"}[kind]
}

// requests says in words which requests an access rule decides: its own, less what earlier rules decide.
func requests(rules policy.Access, place int, q Question) string {
	text := scope(&rules[place], q)
	var except []string
	for i := range place {
		if before := scope(&rules[i], q); (q.Path == "" || q.Method == "") && !slices.Contains(except, before) {
			except = append(except, before)
		}
	}
	if len(except) > 0 {
		text += ", unless an earlier rule decides: " + strings.Join(except, "; ")
	}
	return text
}

func scope(r *policy.Rule, q Question) string {
	methods, paths := "any method", "any path"
	if len(r.Methods) > 0 {
		methods = strings.Join(r.Methods, ", ")
	}
	if len(r.Paths) > 0 {
		paths = strings.Join(r.Paths, ", ")
	}
	if q.Method != "" {
		methods = q.Method
	}
	if q.Path != "" {
		paths = q.Path
	}
	return methods + " " + paths
}

// ways are the ways to be allowed, whoever asks.
func (p *Policy) ways(ctx context.Context, a *app, q Question) ([]Way, error) {
	if !p.engine.Own(a.Name) {
		return p.accessWays(a, q), nil
	}
	r, err := p.remains(ctx, a, q, map[string]any{}, []string{"subject", "context"})
	if err != nil {
		return nil, err
	}
	return p.packageWays(a, q, r), nil
}

// remains is what the app's package still asks of what the question leaves open, beside unknown.
func (p *Policy) remains(ctx context.Context, a *app, q Question, known map[string]any, unknown []string) (r *policy.Remainder, err error) {
	if p.parts == nil {
		if p.parts, err = p.engine.Bundle().Parts(); err != nil {
			return nil, err
		}
	}
	known["resource"] = map[string]any{"id": a.Name, "type": policy.TypeApp, "owner": a.Owner, "sensitivity": a.Sensitivity, "labels": a.Labels}
	unknown = append(unknown, "action.protocol", "action.upgrade", "resource.host", "resource.query")
	if q.Method != "" {
		known["action"] = map[string]any{"method": q.Method, "name": policy.ActionName(q.Method, "")}
	} else {
		unknown = append(unknown, "action.method", "action.name")
	}
	if q.Path != "" {
		maps.Copy(known["resource"].(map[string]any), map[string]any{"path": q.Path, "segments": segments(q.Path)})
	} else {
		unknown = append(unknown, "resource.path", "resource.segments")
	}
	return p.parts.Remains(ctx, a.Name, known, unknown)
}

func segments(path string) []any {
	list := []any{}
	for s := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' }) {
		list = append(list, s)
	}
	return list
}

// packageWays are the conditions that a package leaves, and those of the access rules that it asks.
func (p *Policy) packageWays(a *app, q Question, r *policy.Remainder) []Way {
	ways, access := []Way{}, false
	for _, body := range r.Ways {
		way := Way{Requests: scope(&policy.Rule{}, q), Conditions: []string{}}
		for _, e := range body {
			text := sentence(e, r)
			access = access || text == byAccessRule
			way.Conditions = append(way.Conditions, text)
		}
		ways = append(ways, way)
	}
	if access {
		ways = append(ways, p.accessWays(a, q)...)
	}
	return ways
}

// accessWays are the access rules that can decide what is asked about, and admit somebody.
func (p *Policy) accessWays(a *app, q Question) []Way {
	ways := []Way{}
	for i := range a.Access {
		r := &a.Access[i]
		somebody := r.Public || len(r.Groups)+len(r.Emails)+len(r.Domains) > 0
		if !somebody || !a.search.CanDecide(p.request(a, q, new(Person)), i, p.free(q, new(policy.Subject))) {
			continue
		}
		who := condition.Of(&policy.Rule{Groups: r.Groups, Emails: r.Emails, Domains: r.Domains, Public: r.Public}, "")[0].Text
		ways = append(ways, Way{Rule: a.Access.ID(i), Requests: requests(a.Access, i, q), Who: who, Conditions: p.demands(r)})
	}
	return ways
}
