package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"sallyport/policies"
)

// What a policy compares requests with. Reviewers try the values on both sides of each.

// Selector is what one access rule asks of a request, as the shipped Rego reads it.
type Selector struct {
	ID       string
	Public   bool
	Methods  []string // HEAD with GET; none: all
	AllPaths bool     // neither Exact nor Below
	Exact    []string
	Below    []string // each ends with a slash
	Groups   []string
	Emails   []string // lower case
	Domains  []string // lower case, with their @
	Hours    []Span   // none: always
	Networks []netip.Prefix
	MFA      bool
	ACR      []string
	MaxAge   time.Duration // 0: any
}

// Span is a span of minutes of one day of the week, To excluded.
type Span struct {
	Weekday  string // mon … sun
	From, To int
}

// Constants are what an app's own package can compare the input with: whatever is written in its rules and those they
// lead to, and in the data they read.
type Constants struct {
	Strings []string
	Numbers []int64
	Reads   []string // places under input, as deep as they are written: subject.claims.team, resource.segments.0
	Calls   []string // the built-in functions
	Sites   []Site   // where they are called with something of the path or the method
	Members bool     // of subject.groups it only asks whether texts among Strings are in it
	Relates bool     // it may hold the path against who asks: everybody's own page
	Access  bool     // it asks data.sallyport.authz.access
	All     bool     // it reads input in a way that does not tell which part

	compared []comparison // for At and Apart
}

// Shipped reports whether the policy has the Rego that this program ships, so that its access rules mean what
// Selectors say.
func (e *Engine) Shipped() bool {
	ours := make(map[string]string)
	for name, content := range policies.Modules() {
		ours[name] = string(content)
	}
	theirs := make(map[string]string)
	for _, m := range e.bundle.contents.modules {
		if !strings.HasPrefix(m.name, operatorPrefix) {
			theirs[m.name] = string(m.content)
		}
	}
	return maps.Equal(ours, theirs)
}

// App is what the policy knows of an app, its access rules apart; false if it knows none of that name.
func (e *Engine) App(name string) (App, bool) {
	d, err := e.appData(name)
	if err != nil {
		return App{}, false
	}
	return App{Name: name, Owner: d.Owner, Sensitivity: d.Sensitivity, Labels: d.Labels,
		ShieldThreshold: d.ShieldThreshold, CrossSite: d.CrossSite, ClientCert: d.ClientCert, Providers: sortedNames(d.Providers)}, true
}

// Selectors are an app's access rules in their order.
func (e *Engine) Selectors(app string) ([]Selector, error) {
	d, err := e.appData(app)
	if err != nil {
		return nil, err
	}
	list := make([]Selector, len(d.Rules))
	for i := range d.Rules {
		if list[i], err = d.Rules[i].selector(); err != nil {
			return nil, fmt.Errorf("app %s: rule %s: %w", app, d.Rules[i].ID, err)
		}
	}
	return list, nil
}

func (e *Engine) appData(app string) (d appData, err error) {
	raw, known := e.analyst.apps[app]
	if !known {
		return d, fmt.Errorf("no app %q", app)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return d, fmt.Errorf("app %s: reading the policy's data: %w", app, err)
	}
	return d, nil
}

func (r *ruleData) selector() (Selector, error) {
	s := Selector{
		ID: r.ID, Public: r.Public, Methods: sortedNames(r.Methods), AllPaths: r.Paths == nil,
		Groups: r.Groups, Emails: sortedNames(r.Emails), Domains: r.Domains,
	}
	if r.Paths != nil {
		s.Exact, s.Below = sortedNames(r.Paths.Exact), r.Paths.Below
	}
	if r.StepUp != nil {
		s.MFA, s.ACR, s.MaxAge = r.StepUp.MFA, r.StepUp.ACR, time.Duration(r.StepUp.MaxAgeS)*time.Second
	}
	for _, text := range r.Networks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return s, err
		}
		s.Networks = append(s.Networks, network)
	}
	var err error
	if r.Hours != nil {
		s.Hours, err = r.Hours.spans()
	}
	return s, err
}

func (h *hoursData) spans() ([]Span, error) {
	var list []Span
	for _, day := range sortedNames(h.ByHour) {
		for _, w := range h.ByHour[day] {
			list = append(list, Span{day, w[0] * 60, w[1] * 60})
		}
	}
	for _, day := range sortedNames(h.ByMinute) {
		for _, w := range h.ByMinute[day] {
			from, err := minuteOfDay(w[0])
			if err != nil {
				return nil, err
			}
			to, err := minuteOfDay(w[1])
			if err != nil {
				return nil, err
			}
			list = append(list, Span{day, from, to})
		}
	}
	return list, nil
}

// Constants are those of the app's own package; nil if it has none.
func (e *Engine) Constants(ctx context.Context, app string) (*Constants, error) {
	if !e.Own(app) {
		return nil, nil
	}
	g := newGatherer(ctx, e)
	g.decision(app)
	return g.constants(), g.err
}

// Fingerprint stands for all that decisions on an app depend on besides the input: two policies with the same one give
// the same answers on the app.
func (e *Engine) Fingerprint(ctx context.Context, app string) (string, error) {
	data, known := e.analyst.apps[app]
	if !known {
		return "", fmt.Errorf("no app %q", app)
	}
	h := sha256.New()
	c := &e.bundle.contents
	part(h, e.bundle.OPA, c.manifest.Obligations, c.capabilities, e.analyst.timezone, data)
	for _, m := range c.modules {
		if !strings.HasPrefix(m.name, operatorPrefix) {
			part(h, m.name, string(m.content))
		}
	}
	if e.Own(app) {
		g := newGatherer(ctx, e)
		g.decision(app)
		if g.err != nil {
			return "", g.err
		}
		part(h, g.texts(), g.documentTexts())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// part writes values so that no two lists of them look alike.
func part(h hash.Hash, values ...any) {
	for _, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			panic("BUG: fingerprint: " + err.Error())
		}
		fmt.Fprintf(h, "%d:", len(text))
		h.Write(text)
	}
}

// gatherer walks the rules that a reference leads to.
type gatherer struct {
	ctx       context.Context
	engine    *Engine
	visited   map[*ast.Rule]bool
	entries   []*ast.Rule // the decision
	strings   map[string]bool
	numbers   map[int64]bool
	reads     map[string]bool
	calls     map[string]bool
	documents map[string]ast.Value // data that is no rule, by reference
	links     *links
	loose     bool // subject.groups is used for more than asking what is in it
	relates   bool // the path is held against who asks
	access    bool
	all       bool
	err       error
}

func newGatherer(ctx context.Context, e *Engine) *gatherer {
	g := &gatherer{
		ctx: ctx, engine: e, visited: make(map[*ast.Rule]bool), strings: make(map[string]bool), numbers: make(map[int64]bool),
		reads: make(map[string]bool), calls: make(map[string]bool), documents: make(map[string]ast.Value),
	}
	g.links = newLinks(g)
	return g
}

// decision follows the app's own package from its decision on.
func (g *gatherer) decision(app string) {
	r := append(refApp.Copy(), ast.StringTerm(app), ast.StringTerm("decision"))
	g.entries = g.engine.compiler.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true})
	g.reference(r)
}

func (g *gatherer) constants() *Constants {
	return &Constants{
		Strings: sortedNames(g.strings), Numbers: slices.Sorted(maps.Keys(g.numbers)), Reads: sortedNames(g.reads),
		Calls: sortedNames(g.calls), Sites: g.sites(), Members: !g.loose && !g.all && !g.reads["subject"], Relates: g.relates, Access: g.access, All: g.all,
		compared: g.links.comparisons(),
	}
}

// texts are the rules as they are written, with their packages, in an order of their own.
func (g *gatherer) texts() []string {
	var list []string
	for r := range g.visited {
		list = append(list, r.Module.Package.Path.String()+" "+renumbered(r.String()))
	}
	slices.Sort(list)
	return list
}

// renumbered is a rule's text with the compiler's variables numbered within the rule. The compiler counts them through all
// modules.
func renumbered(text string) string {
	numbers := map[string]int{}
	return compilerVariable.ReplaceAllStringFunc(text, func(name string) string {
		if _, known := numbers[name]; !known {
			numbers[name] = len(numbers)
		}
		return fmt.Sprintf("__local%d__", numbers[name])
	})
}

var compilerVariable = regexp.MustCompile(`__local\d+__`)

func (g *gatherer) walk(x any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Head:
			for _, t := range x.Reference[min(1, len(x.Reference)):] { // the visitor leaves it out
				g.walk(t)
			}
		case *ast.Expr:
			if x.IsCall() && g.call(x.Terms.([]*ast.Term)) {
				for _, w := range x.With {
					g.walk(w)
				}
				return true
			}
		case ast.Call:
			return g.call(x)
		case *ast.With:
			g.all = true
		case ast.Ref:
			g.reference(x)
			for _, t := range x[1:] {
				if _, constant := t.Value.(ast.String); !constant {
					g.walk(t)
				}
			}
			if _, named := x[0].Value.(ast.Var); !named {
				g.walk(x[0])
			}
			return true
		case ast.Var:
			if x.Equal(ast.InputRootDocument.Value) || x.Equal(ast.DefaultRootDocument.Value) {
				g.all = true
			}
		case ast.String:
			g.strings[string(x)] = true
		case ast.Number:
			g.number(x)
		}
		return false
	}).Walk(x)
}

// call notes a function, and reports whether it has taken in the arguments as well: object.get with constants reads what
// they name, and no more.
func (g *gatherer) call(terms []*ast.Term) bool {
	g.calls[strings.TrimPrefix(terms[0].String(), guardPrefix)] = true
	r, ok := constantGet(terms)
	if !ok {
		return false
	}
	g.read(r)
	g.loose = g.loose || r.HasPrefix(refGroups)
	for _, t := range terms[3:] {
		g.walk(t)
	}
	return true
}

func (g *gatherer) number(n ast.Number) {
	if i, ok := wholeOf(n); ok {
		g.numbers[i] = true
	}
}

// wholeOf is a number without its fraction; false if it is too large.
func wholeOf(n ast.Number) (int64, bool) {
	if i, whole := n.Int64(); whole {
		return i, true
	}
	f, ok := n.Float64()
	return int64(f), ok && f > -1e18 && f < 1e18
}

func (g *gatherer) reference(r ast.Ref) {
	switch {
	case r.HasPrefix(refInput):
		g.read(r)
	case r.HasPrefix(refAccess):
		g.access = true
	case r.HasPrefix(refAuthz), r[0].Equal(ast.DefaultRootDocument) && refAuthz.HasPrefix(r.ConstantPrefix()):
		g.access, g.all = true, true
	case r[0].Equal(ast.DefaultRootDocument):
		g.data(r)
	}
}

// read notes a place under input, up to the first part that is no name.
func (g *gatherer) read(r ast.Ref) {
	names := placeNames(r)
	if len(names) == 0 {
		g.all = true
	}
	g.reads[strings.Join(names, ".")] = true
}

// placeName is the name of a field, or the number of an element.
func placeName(t *ast.Term) (string, bool) {
	switch v := t.Value.(type) {
	case ast.String:
		return string(v), true
	case ast.Number:
		return v.String(), true
	}
	return "", false
}

// data follows a reference to rules, or reads what it names.
func (g *gatherer) data(r ast.Ref) {
	rules := g.engine.compiler.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true})
	for _, rule := range rules {
		// by_method.GET asks for what by_method[input.action.method] holds
		for _, t := range r[min(len(r), len(rule.Module.Package.Path)+1):] {
			if s, constant := t.Value.(ast.String); constant {
				g.strings[string(s)] = true
			}
		}
		if !g.visited[rule] {
			g.visited[rule] = true
			plain := direct(rule)
			g.walk(plain)
			g.links.walk(rule, plain, slices.Contains(g.entries, rule))
			g.loose = g.loose || !asksMembersOnly(plain)
			g.relates = g.relates || relates(plain)
		}
	}
	g.document(r.ConstantPrefix())
}

// document takes in what the policy's data holds at a place, or nothing.
func (g *gatherer) document(r ast.Ref) {
	if v := g.documentAt(r); v != nil {
		g.walk(ast.NewTerm(v))
	}
}

// documentAt is what the policy's data holds at a place; nil for nothing.
func (g *gatherer) documentAt(r ast.Ref) ast.Value {
	name := r.String()
	if v, known := g.documents[name]; known {
		return v
	}
	path, err := storage.NewPathForRef(r)
	if err != nil {
		return nil // not a place of data
	}
	value, err := g.engine.store.Read(g.ctx, g.engine.txn, path)
	if storage.IsNotFound(err) {
		return nil
	}
	var v ast.Value
	if err == nil {
		v, err = ast.InterfaceToValue(value)
	}
	if err != nil {
		g.err = fmt.Errorf("reading %v: %w", r, err)
		return nil
	}
	g.documents[name] = v
	return v
}

// documentTexts are the data that was read, as text.
func (g *gatherer) documentTexts() map[string]string {
	texts := make(map[string]string, len(g.documents))
	for name, v := range g.documents {
		texts[name] = v.String()
	}
	return texts
}
