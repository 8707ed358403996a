package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Remainder is what a policy still asks when part of the input is known.
type Remainder struct {
	// Ways are alternatives: whoever meets all conditions of one is allowed. None: nobody is. A way without conditions
	// is everybody's. Conditions refer to input, to Support, and to data.sallyport.authz.access for what the app's access
	// rules say.
	Ways []ast.Body
	// Support are rules that conditions refer to, which have no form without them.
	Support []*ast.Module
}

// Parts evaluates a policy in part. It is not safe for concurrent use.
type Parts struct {
	contents *contents
	compiler *ast.Compiler // its own: evaluating in part rewrites the terms it meets
}

// Parts prepares to evaluate the policy in part.
func (b *Bundle) Parts() (*Parts, error) {
	compiler, err := b.contents.compileForParts(unchain)
	if err != nil {
		return nil, err
	}
	return &Parts{contents: &b.contents, compiler: compiler}, nil
}

// Remains evaluates an app's own package as far as known leads, a part of the input such as {"subject": {...}}: what is
// left when the places under input that unknown names, such as context or subject.authn, may be anything. What is neither
// known nor unknown is absent.
func (p *Parts) Remains(ctx context.Context, app string, known map[string]any, unknown []string) (*Remainder, error) {
	input, err := ast.InterfaceToValue(known)
	if err != nil {
		return nil, fmt.Errorf("evaluating the policy in part: %w", err)
	}
	store, err := storeWith(p.contents.data, p.contents.own)
	if err != nil {
		return nil, fmt.Errorf("evaluating the policy in part: %w", err)
	}
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, fmt.Errorf("evaluating the policy in part: %w", err)
	}
	defer store.Abort(ctx, txn)
	terms := []*ast.Term{ast.NewTerm(refAccess)}
	for _, place := range unknown {
		terms = append(terms, ast.MustParseTerm("input."+place))
	}
	allowed := append(refApp.Copy(), ast.StringTerm(app), ast.StringTerm("decision"), ast.StringTerm("allow"))
	query, err := p.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(allowed), ast.BooleanTerm(true))))
	if err != nil {
		return nil, fmt.Errorf("evaluating the policy in part: %w", err)
	}
	r := new(Remainder)
	r.Ways, r.Support, err = topdown.NewQuery(query).
		WithCompiler(p.compiler).
		WithStore(store).
		WithTransaction(txn).
		WithBuiltins(guardedBuiltins()).
		WithStrictBuiltinErrors(true).
		WithMetrics(metrics.NoOp()).
		WithTime(neverNow).
		WithCancel(&budget{ctx: ctx, left: partialLimit}).
		WithUnknowns(terms).
		WithPartialNamespace(partialNamespace).
		WithInput(ast.NewTerm(input)).
		PartialRun(ctx)
	if err != nil {
		return nil, fmt.Errorf("evaluating the policy in part: %w", err)
	}
	return r, nil
}

// Denies is what a negated condition denies, where that is rules of Support: their bodies, one of which would do. Nil: it
// is no such condition.
func (r *Remainder) Denies(e *ast.Expr) (bodies []ast.Body) {
	t, is := e.Terms.(*ast.Term)
	if !is || !e.Negated {
		return nil
	}
	for _, m := range r.Support {
		for _, rule := range m.Rules {
			if len(rule.Head.Args) == 0 && rule.Ref().GroundPrefix().Equal(t.Value) {
				bodies = append(bodies, rule.Body)
			}
		}
	}
	return bodies
}

// Text is a condition of a remainder as Rego.
func (r *Remainder) Text(e *ast.Expr) string {
	return strings.NewReplacer(guardPrefix, "", "data."+partialNamespace+".", "").Replace(e.String())
}
