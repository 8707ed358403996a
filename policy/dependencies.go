package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// analyst finds the input fields that the decision on one app can depend on, or why that cannot be said.
//
// What an app's own package reads, and all rules it leads to, is taken from the text of the rules: every reference to
// input in any of them counts, whether a given request gets there or not. What data.sallyport.authz.access reads is
// taken from the partial evaluation of its parts with the app's id and data, which leaves out the conditions that the app's rules do
// not have. Dropping branches may also drop an error that they would have raised; the shipped Rego, which alone is
// treated so, is written and tested to raise none.
//
// Partial evaluation in OPA leaves rules with else as they are, and rewrites the terms it meets, data included, in place.
// It therefore has a compiler of its own for the shipped modules, without else (see loosen), a copy of the app's data for each run, and runs alone.
type analyst struct {
	mu       sync.Mutex
	live     *ast.Compiler // read only
	shipped  *ast.Compiler
	timezone string
	apps     map[string]json.RawMessage
}

func newAnalyst(live *ast.Compiler, c *contents) (*analyst, error) {
	shipped := *c
	shipped.modules = slices.DeleteFunc(slices.Clone(c.modules), func(m module) bool {
		return strings.HasPrefix(m.name, operatorPrefix)
	})
	compiler, err := shipped.compileForParts(loosen)
	if err != nil {
		return nil, err
	}
	var config struct {
		Timezone string                     `json:"timezone"`
		Apps     map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(c.data, &config); err != nil {
		return nil, err
	}
	return &analyst{live: live, shipped: compiler, timezone: config.Timezone, apps: config.Apps}, nil
}

// store is data.sallyport.config as far as it concerns one app.
func (a *analyst) store(app string) (storage.Store, error) {
	config, err := json.Marshal(map[string]any{
		"timezone": a.timezone,
		"apps":     map[string]json.RawMessage{app: a.apps[app]},
	})
	if err != nil {
		return nil, err
	}
	return storeOf(config)
}

// dependencies is one analysis.
type dependencies struct {
	compiler *ast.Compiler // whose rules are walked
	fields   fieldSet
	visited  map[*ast.Rule]bool
	own      bool // walking the operator's rules
	access   bool // they ask data.sallyport.authz.access
	err      error
}

var (
	errReadsAll    = errors.New("the policy reads all of input")
	errReadsPolicy = errors.New("the policy reads all of data.sallyport.authz")
	errMocks       = errors.New("the policy replaces documents using the keyword with")
)

// errVolatile says that the app's policy reads something that differs in every request.
func errVolatile(f field) error {
	return fmt.Errorf("the policy reads input.%s, which differs in every request", fieldPaths[f])
}

var (
	refInput   = ast.MustParseRef("input")
	refAuthz   = ast.MustParseRef("data.sallyport.authz")
	refAccess  = ast.MustParseRef("data.sallyport.authz.access")
	refPartial = ast.MustParseRef("data." + partialNamespace)
)

// partialNamespace is where a partial evaluation puts the rules it makes.
const partialNamespace = "__sallyport_partial"

// dependenciesLocked analyses the policy for one app.
func (a *analyst) dependenciesLocked(ctx context.Context, app string, own bool) ([]field, error) {
	d := &dependencies{compiler: a.live, visited: make(map[*ast.Rule]bool)}
	d.fields[fieldResourceID] = true
	if err := d.always(a.apps[app]); err != nil {
		return nil, err
	}
	if own {
		d.fields[fieldSubjectType] = true // a stranger without an answer is asked to sign in
		d.own = true
		d.reference(append(refApp.Copy(), ast.StringTerm(app), ast.StringTerm("decision")))
	}
	if !own || d.access {
		d.compiler, d.own = a.shipped, false
		for _, part := range partsOfAccess {
			if err := a.partialLocked(ctx, app, part, d); err != nil {
				return nil, fmt.Errorf("the policy cannot be evaluated in part: %w", err)
			}
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return d.fields.list(), nil
}

// always notes what is asked before an app's rules, whatever they are: no foreign page opens a WebSocket and no token is
// good for more than it was made for, in any app.
func (d *dependencies) always(app json.RawMessage) error {
	var has appData
	if err := json.Unmarshal(app, &has); err != nil {
		return err
	}
	d.fields[fieldActionName], d.fields[fieldCrossOrigin] = true, true
	d.fields[fieldCrossSiteUnsafe] = !has.CrossSite
	d.fields[fieldShield] = has.ShieldThreshold > 0
	d.fields[fieldTokenApps], d.fields[fieldTokenMethods], d.fields[fieldMethod] = true, true, true
	if len(has.Providers) > 0 {
		d.fields[fieldSubjectType], d.fields[fieldAuthnProvider] = true, true
	}
	d.fields[fieldCert], d.fields[fieldCertProblem] = has.ClientCert, has.ClientCert
	return nil
}

// memorable reports why answers that depend on these fields are not worth remembering.
func memorable(list []field) error {
	for _, f := range list {
		if f.volatile() {
			return errVolatile(f)
		}
	}
	return nil
}

// partialLimit bounds the partial evaluation for one app.
const partialLimit = 5_000_000 // polls of the evaluator

// partsOfAccess are what data.sallyport.authz.access is made of. Each is evaluated by itself: the second one behind the
// denial of the first would read the same and take much longer.
var partsOfAccess = [...]string{"data.sallyport.authz.granted", "data.sallyport.authz.refused"}

// partialLocked evaluates a part as far as the app's name and data lead, and walks what is left.
func (a *analyst) partialLocked(ctx context.Context, app, part string, d *dependencies) error {
	query, err := a.shipped.QueryCompiler().Compile(ast.MustParseBody(part))
	if err != nil {
		return err
	}
	store, err := a.store(app)
	if err != nil {
		return err
	}
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return err
	}
	defer store.Abort(ctx, txn)
	var unknown []*ast.Term
	for f := range fields {
		if f != fieldResourceID {
			unknown = append(unknown, ast.MustParseTerm("input."+fieldPaths[f]))
		}
	}
	known := ast.ObjectTerm(ast.Item(key("resource"), ast.ObjectTerm(ast.Item(key("id"), ast.StringTerm(app)))))
	queries, support, err := topdown.NewQuery(query).
		WithCompiler(a.shipped).
		WithStore(store).
		WithTransaction(txn).
		WithBuiltins(guardedBuiltins()).
		WithStrictBuiltinErrors(true).
		WithMetrics(metrics.NoOp()).
		WithTime(neverNow).
		WithCancel(&budget{ctx: ctx, left: partialLimit}).
		WithUnknowns(unknown).
		WithPartialNamespace(partialNamespace).
		WithInput(known).
		PartialRun(ctx)
	if err != nil {
		return err
	}
	for _, q := range queries {
		d.walk(q)
	}
	for _, m := range support {
		for _, r := range m.Rules {
			d.walk(r)
		}
	}
	return nil
}

// budget is a topdown.Cancel that counts, so that the same policy always ends the same way.
type budget struct {
	ctx  context.Context
	left int
}

func (b *budget) Cancelled() bool { b.left--; return b.left < 0 || b.ctx.Err() != nil }
func (b *budget) Cancel()         { b.left = 0 }

// walk visits every reference in a piece of policy.
func (d *dependencies) walk(x any) {
	ast.NewGenericVisitor(func(x any) bool {
		switch x := x.(type) {
		case *ast.Head:
			for _, part := range x.Reference[min(1, len(x.Reference)):] { // the visitor leaves it out
				d.walk(part)
			}
		case *ast.With:
			d.fail(errMocks)
		case ast.Ref:
			d.reference(x)
			for _, part := range x[1:] {
				d.walk(part)
			}
			if _, named := x[0].Value.(ast.Var); !named {
				d.walk(x[0])
			}
			return true
		case ast.Var:
			if x.Equal(ast.InputRootDocument.Value) {
				d.fail(errReadsAll)
			}
			if x.Equal(ast.DefaultRootDocument.Value) {
				d.fail(errReadsPolicy)
			}
		}
		return d.err != nil
	}).Walk(x)
}

// reference notes what a reference leads to: input fields, or rules and what those lead to.
func (d *dependencies) reference(r ast.Ref) {
	switch {
	case r.HasPrefix(refInput):
		if len(r.ConstantPrefix()) == len(refInput) {
			d.fail(errReadsAll)
			return
		}
		d.fields.read(r)
	case !d.own && r.HasPrefix(refPartial): // made by the partial evaluation, walked on their own
	case d.own && r.HasPrefix(refAccess):
		d.access = true
	case d.own && refAuthz.HasPrefix(r.ConstantPrefix()):
		d.fail(errReadsPolicy)
	case r[0].Equal(ast.DefaultRootDocument):
		for _, rule := range d.compiler.GetRulesDynamicWithOpts(r, ast.RulesOptions{IncludeHiddenModules: true}) {
			d.rule(rule)
		}
	}
}

// rule walks a rule once.
func (d *dependencies) rule(r *ast.Rule) {
	if !d.visited[r] {
		d.visited[r] = true
		d.walk(r)
	}
}

func (d *dependencies) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}
