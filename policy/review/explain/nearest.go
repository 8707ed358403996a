package explain

import (
	"cmp"
	"container/heap"
	"context"
	"net/netip"
	"slices"
	"strings"

	"sallyport/policy"
	"sallyport/policy/review/condition"
)

// Nearest is the smallest change that was found of a request, after which it is allowed. It was tried: the policy allows
// the changed request.
type Nearest struct {
	Rule    string        `json:"rule,omitempty"` // which then allows, where the decision names it
	Changes []Change      `json:"changes"`
	Input   *policy.Input `json:"-"` // the changed request
}

// maxTrials bounds the search for what would be allowed.
const maxTrials = 150

// trial is a changed request.
type trial struct {
	in      *policy.Input
	changes []Change
	weight  int
}

// trials is the search's queue, the nearest first.
type trials []*trial

func (q trials) Len() int           { return len(q) }
func (q trials) Less(i, j int) bool { return q[i].weight < q[j].weight }
func (q trials) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *trials) Push(x any)        { *q = append(*q, x.(*trial)) }
func (q *trials) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	*q = (*q)[:last]
	return t
}

// Reach finds the smallest change of a request after which it is allowed, among changes of the fields that may accepts.
// A nil Nearest means that none was found.
func (s *Subject) Reach(ctx context.Context, in *policy.Input, may func(field string) bool) *Nearest {
	v := s.decide(ctx, in)
	if v.Allow {
		return &Nearest{Rule: grantedBy(v), Input: in, Changes: []Change{}}
	}
	return s.nearest(ctx, in, v, may)
}

// ReachBy is Reach by way of one access rule of the app, by its place from 0, which must then be the one that decides.
func (s *Subject) ReachBy(ctx context.Context, in *policy.Input, place int, may func(field string) bool) *Nearest {
	start := &trial{in: in}
	if s.opens(ctx, in, place) {
		return &Nearest{Rule: s.app.Access.ID(place), Input: in, Changes: []Change{}}
	}
	for _, changes := range s.openings(place, in, may) {
		if t := start.with(changes, may); t != nil && s.opens(ctx, t.in, place) {
			return &Nearest{Rule: s.app.Access.ID(place), Input: t.in, Changes: t.changes}
		}
	}
	return nil
}

// opens reports whether a request is allowed and an access rule decides it.
func (s *Subject) opens(ctx context.Context, in *policy.Input, place int) bool {
	return s.deciding(in) == place && s.decide(ctx, in).Allow
}

// CanDecide reports whether an access rule decides any request that differs in no more than may accepts.
func (s *Subject) CanDecide(in *policy.Input, place int, may func(field string) bool) bool {
	_, found := s.scope(place, in, may)
	return found
}

// nearest searches from the request outwards: what each failing rule would have to have is tried, and what then still
// fails, the smallest changes first.
func (s *Subject) nearest(ctx context.Context, in *policy.Input, v *policy.Verdict, may func(field string) bool) *Nearest {
	if crossOrigin(in) {
		return nil
	}
	queue, seen := &trials{{in: in}}, map[string]bool{}
	for range maxTrials {
		if queue.Len() == 0 || ctx.Err() != nil {
			return nil
		}
		t := heap.Pop(queue).(*trial)
		if t.in != in {
			if v = s.decide(ctx, t.in); v.Allow {
				return s.least(ctx, in, t.changes)
			}
		}
		for _, more := range s.proposals(ctx, t.in, v, may) {
			if next := t.with(more, may); next != nil && !seen[next.key()] {
				seen[next.key()] = true
				heap.Push(queue, next)
			}
		}
	}
	return nil
}

// least is what is left of changes when those that nothing depends on are dropped.
func (s *Subject) least(ctx context.Context, in *policy.Input, changes []Change) *Nearest {
	n := s.applied(ctx, in, changes)
	for i := len(changes) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(n.Changes), i, i+1)
		if less := s.applied(ctx, in, without); less != nil {
			n = less
		}
	}
	order(n.Changes)
	return n
}

// applied is a request after changes; nil if it is not allowed.
func (s *Subject) applied(ctx context.Context, in *policy.Input, changes []Change) *Nearest {
	changed := *in
	for _, c := range changes {
		c.apply(&changed)
	}
	v := s.decide(ctx, &changed)
	if !v.Allow {
		return nil
	}
	return &Nearest{Rule: grantedBy(v), Changes: changes, Input: &changed}
}

// with is the request changed further; nil if that is not allowed, or would change one thing twice.
func (t *trial) with(more []Change, may func(field string) bool) *trial {
	changed := *t.in
	if !permitted(more, may) {
		return nil
	}
	next := &trial{in: &changed, changes: slices.Clone(t.changes), weight: t.weight}
	for _, c := range more {
		if slices.ContainsFunc(next.changes, func(had Change) bool { return had.Field == c.Field && had.To == c.To }) {
			return nil
		}
		next.changes = append(next.changes, c)
		next.weight += c.weight
		c.apply(next.in)
	}
	if len(more) == 0 || len(next.changes) > maxChanges {
		return nil
	}
	return next
}

// maxChanges bounds what is still called near.
const maxChanges = 8

func (t *trial) key() string {
	keys := make([]string, len(t.changes))
	for i, c := range t.changes {
		keys[i] = c.Field + "\x00" + c.To
	}
	slices.Sort(keys)
	return strings.Join(keys, "\x01")
}

func grantedBy(v *policy.Verdict) string {
	for _, r := range v.Decision.Reasons {
		if r.Rule != "" {
			return r.Rule
		}
	}
	return ""
}

// proposals are sets of changes, each of which may let the request pass or bring it nearer.
func (s *Subject) proposals(ctx context.Context, in *policy.Input, v *policy.Verdict, may func(field string) bool) [][]Change {
	var list [][]Change
	switch g := s.guard(v); {
	case g == nil:
	case g.code == "cross_site":
		return [][]Change{{fromOwnPage()}}
	case g.code == "client_certificate":
		return [][]Change{{showCertificate()}}
	case g.code == "provider":
		return s.otherProviders()
	case g.code == "token_scope":
		return [][]Change{{otherToken(in)}}
	default:
		return nil // nobody chooses what inspection finds
	}
	if v.Reason == policy.ReasonStepUp {
		list = append(list, steps(v))
	}
	access := true
	if s.engine.Own(s.app.Name) {
		seen := s.observe(ctx, in)
		access = seen.access
		for _, c := range s.repairs(ctx, seen) {
			list = append(list, []Change{c})
		}
	}
	for i := range s.app.Access {
		if access {
			list = append(list, s.openings(i, in, may)...)
		}
	}
	if in.Subject.Type == policy.TypeAnonymous {
		list = append(list, []Change{signIn()})
	}
	return list
}

// fromOwnPage is sending the request from a page of the app.
func fromOwnPage() Change {
	return Change{Field: "context.request.cross_site_unsafe", To: "false", Text: "send it from a page of the app itself", weight: weightPlace,
		apply: func(in *policy.Input) { in.Context.Request.CrossSiteUnsafe = new(false) }}
}

// showCertificate is asking with a client certificate that counts, of which nothing else is known.
func showCertificate() Change {
	return Change{Field: "subject.cert", To: "a client certificate", Text: "show a client certificate of the gateway's authorities", weight: weightDevice,
		apply: func(in *policy.Input) { in.Subject.Cert, in.Subject.CertProblem = new(policy.Cert), "" }}
}

// otherProviders are signing in with each of those that the app is for.
func (s *Subject) otherProviders() (list [][]Change) {
	for _, name := range s.app.Providers {
		list = append(list, []Change{{Field: "subject.authn.provider", To: name, Text: "sign in with " + name, weight: weightSignIn,
			apply: func(in *policy.Input) {
				if in.Subject.Authn == nil {
					in.Subject.Authn = new(policy.Authn)
				}
				authn := *in.Subject.Authn
				authn.Provider = name
				in.Subject.Authn = &authn
			}}})
	}
	return list
}

// otherToken is showing a token that was made for the app and the method.
func otherToken(in *policy.Input) Change {
	return Change{Field: "subject.token", To: in.Action.Method + " " + in.Resource.ID, Text: "use a token for " + in.Action.Method + " requests to " + in.Resource.ID,
		weight: weightDevice, apply: func(in *policy.Input) {
			token := *in.Subject.Token
			token.Apps, token.Methods = []string{in.Resource.ID}, []string{in.Action.Method}
			in.Subject.Token = &token
		}}
}

// signIn is becoming somebody, of whom nothing is known but that a provider vouches for them.
func signIn() Change {
	return Change{Field: "subject.type", To: policy.TypeUser, Text: "sign in", weight: weightSignIn, apply: func(in *policy.Input) {
		in.Subject = policy.Subject{Type: policy.TypeUser, ID: "somebody|1", Email: "somebody@example.invalid", EmailVerified: true,
			Authn: &policy.Authn{Provider: "somebody"}, Session: &policy.Session{ID: "1", AgeS: policy.AgeOf(0), IdleS: policy.AgeOf(0)}}
		again().apply(in)
	}}
}

// steps are what a decision that asks for a stronger sign-in asks for.
func steps(v *policy.Verdict) []Change {
	var list []Change
	for _, o := range v.Decision.Obligations {
		if o.Type == policy.StepUp {
			list = append(list, strengthen(o.MFA, o.ACR, o.MaxAgeS > 0)...)
		}
	}
	return list
}

func strengthen(mfa bool, acr []string, fresh bool) []Change {
	var list []Change
	if mfa {
		list = append(list, Change{Field: "subject.authn.mfa", To: "true", Text: "sign in with more than one factor", weight: weightSignIn,
			apply: func(in *policy.Input) { authnOf(in).MFA = true }})
	}
	if len(acr) > 0 {
		list = append(list, Change{Field: "subject.authn.acr", To: acr[0], Text: "sign in with the assurance " + strings.Join(acr, " or "), weight: weightSignIn,
			apply: func(in *policy.Input) { authnOf(in).ACR = acr[0] }})
	}
	if fresh {
		list = append(list, again())
	}
	return list
}

// openings are what would have to change for an access rule to admit the request: one set of changes for each way to
// be named by it and to be a request that it decides.
func (s *Subject) openings(place int, in *policy.Input, may func(field string) bool) [][]Change {
	rule := &s.app.Access[place]
	scope, ok := s.scope(place, in, may)
	if !ok {
		return nil
	}
	common := scope
	if in.Subject.Type == policy.TypeAnonymous && !rule.Public {
		common = append(common, signIn())
	}
	for _, c := range condition.Of(rule, s.zone.String()) {
		if c.Holds(in) || c.Scope() || c.Kind == condition.Who {
			continue
		}
		change, possible := s.meet(rule, c)
		if !possible {
			return nil
		}
		common = append(common, change...)
	}
	if condition.Admits(rule, &in.Subject) {
		return [][]Change{common}
	}
	var list [][]Change
	for _, c := range s.belong(rule) {
		list = append(list, append(slices.Clone(common), c))
	}
	return list
}

// meet is what a condition of a rule, other than whom it names, would take.
func (s *Subject) meet(rule *policy.Rule, c condition.Condition) ([]Change, bool) {
	switch c.Kind {
	case condition.MFA:
		return strengthen(true, nil, false), true
	case condition.ACR:
		return strengthen(false, rule.ACR, false), true
	case condition.MaxAge:
		return strengthen(false, nil, true), true
	case condition.Network:
		change := setIP(rule.Networks[0])
		change.Text = "ask " + c.Text
		return []Change{change}, true
	case condition.Hours:
		change, ok := s.when(rule.Hours.String(), "context.time", func(at *policy.Context) bool { return c.Holds(&policy.Input{Context: *at}) })
		change.Text = "ask " + c.Text
		return []Change{change}, ok
	}
	return nil, false
}

func setIP(n netip.Prefix) Change {
	ip := n.Addr().String()
	return Change{Field: "context.client.ip", To: n.String(), Text: "ask from " + n.String(), weight: weightPlace,
		apply: func(in *policy.Input) { in.Context.Client.IP = ip }}
}

// belong are the ways to be named by a rule.
func (s *Subject) belong(rule *policy.Rule) []Change {
	var list []Change
	if len(rule.Groups) > 0 {
		c, _ := s.join("subject.groups", rule.Groups[0])
		c.Text = "be in the group " + rule.Groups[0]
		if n := len(rule.Groups); n > 1 {
			c.Text = "be in one of the groups " + strings.Join(rule.Groups, ", ")
		}
		list = append(list, c)
	}
	email := func(address, text string) {
		list = append(list, Change{Field: "subject.email", To: address, Text: text, weight: weightPerson,
			apply: func(in *policy.Input) { in.Subject.Email, in.Subject.EmailVerified = address, true }})
	}
	if len(rule.Emails) > 0 {
		email(rule.Emails[0], "have one of the verified addresses that the rule names")
	}
	if len(rule.Domains) > 0 {
		email("somebody@"+rule.Domains[0], "have a verified address of "+strings.Join(rule.Domains, " or "))
	}
	return list
}

// scope is what makes an access rule decide the request: nothing, or another method and path. False: no such request
// was found.
func (s *Subject) scope(place int, in *policy.Input, may func(field string) bool) ([]Change, bool) {
	rule := &s.app.Access[place]
	methods := rule.Methods
	if len(methods) == 0 {
		methods = commonMethods
	}
	for _, path := range append([]string{in.Resource.Path}, samples(rule.Paths)...) {
		for _, method := range append([]string{in.Action.Method}, methods...) {
			asked := *in
			asked.Resource.Path, asked.Action.Method = path, method
			changes := scopeChanges(in, method, path)
			if s.deciding(&asked) == place && permitted(changes, may) {
				return changes, true
			}
		}
	}
	return nil, false
}

// commonMethods are tried for a rule that is for all methods, of which earlier rules may have taken some.
var commonMethods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func permitted(changes []Change, may func(field string) bool) bool {
	return may == nil || !slices.ContainsFunc(changes, func(c Change) bool { return !may(c.Field) })
}

// samples are paths that those of a rule cover.
func samples(paths []string) []string {
	list := []string{}
	if len(paths) == 0 {
		list = append(list, "/any")
	}
	for _, p := range paths {
		list = append(list, p)
		if strings.HasSuffix(p, "/") {
			list = append(list, p+"any")
		}
	}
	return list
}

// deciding is the place of the access rule that decides a request, or -1.
func (s *Subject) deciding(in *policy.Input) int {
	return slices.IndexFunc(s.app.Access, func(r policy.Rule) bool { return condition.Decides(&r, in) })
}

func scopeChanges(in *policy.Input, method, path string) []Change {
	var list []Change
	if path != in.Resource.Path {
		list = append(list, askFor(path))
	}
	if method != in.Action.Method {
		list = append(list, useMethod(method))
	}
	return list
}

// order sorts changes by field, so that the same explanation is always put the same.
func order(list []Change) {
	slices.SortStableFunc(list, func(a, b Change) int { return cmp.Or(a.weight-b.weight, strings.Compare(a.Field, b.Field)) })
}
