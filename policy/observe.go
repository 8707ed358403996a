package policy

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Observe evaluates a document under data, such as data.sallyport.app.wiki.decision, the long way: all of its rules are
// tried, those too that the index or an earlier rule would have spared, so that tracer hears of every one. It takes at
// most steps evaluation steps; nil is a document that is undefined. Decisions are Decide's to make: where a rule that
// need not be tried fails, Observe fails and Decide does not.
func (e *Engine) Observe(ctx context.Context, in *Input, document ast.Ref, steps int, tracer topdown.QueryTracer) (value *ast.Term, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("observing the policy: panic: %v", p)
		}
	}()
	query := topdown.NewQuery(ast.NewBody(ast.Equality.Expr(ast.NewTerm(result), ast.NewTerm(document)))).
		WithCompiler(e.compiler).
		WithStore(e.store).
		WithTransaction(e.txn).
		WithBuiltins(e.builtins).
		WithStrictBuiltinErrors(true).
		WithMetrics(metrics.NoOp()).
		WithTime(neverNow).
		WithCancel(&budget{ctx: ctx, left: steps}).
		WithIndexing(false).
		WithEarlyExit(false).
		WithInput(in.term())
	if tracer != nil {
		query = query.WithQueryTracer(tracer)
	}
	err = query.Iter(ctx, func(r topdown.QueryResult) error {
		value = r[result]
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("observing the policy: %w", err)
	}
	return value, nil
}
