package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Engine answers under one bundle. It is safe for concurrent use.
type Engine struct {
	bundle    *Bundle
	compiler  *ast.Compiler
	query     ast.Body
	builtins  map[string]*topdown.Builtin
	store     storage.Store
	txn       storage.Transaction // one for all: nothing is ever written
	documents *documents          // what the store holds
	byField   bool                // no rule reads input.action, resource or context as a whole
	deadline  time.Duration
	plans     map[string]*plan // by app
	analyst   *analyst
	memo      *memo // nil: nothing is remembered
}

// Digest names the policy in records.
func (e *Engine) Digest() string { return e.bundle.Digest }

// Revision names the policy to people.
func (e *Engine) Revision() string { return e.bundle.Revision }

// Own reports whether a package of the operator's decides about an app, in place of its access rules alone.
func (e *Engine) Own(app string) bool {
	p := e.plans[app]
	return p != nil && p.own
}

// Decide answers. It never fails: doubt denies.
func (e *Engine) Decide(ctx context.Context, in *Input) *Verdict {
	return e.answer(ctx, in, e.deadline)
}

// answer evaluates an input, unless one that agrees with it in all that its app's policy can read has been.
func (e *Engine) answer(ctx context.Context, in *Input, limit time.Duration) *Verdict {
	fields, remembered := e.projection(ctx, in.Resource.ID)
	if !remembered {
		return e.evaluate(ctx, in, limit)
	}
	var space [keySpace]byte
	key := in.project(space[:0], fields)
	if v, sampled := e.memo.get(key); v != nil {
		if sampled {
			e.memo.offer(in, v)
		}
		return v
	}
	v := e.evaluate(ctx, in, limit)
	if v.clear() {
		e.memo.put(key, v)
	}
	return v
}

// keySpace holds the projections of most inputs without an allocation.
const keySpace = 1 << 10

// clear reports whether the policy answered. Errors, timeouts and silence are not remembered.
func (v *Verdict) clear() bool {
	switch v.Reason {
	case ReasonAllow, ReasonPolicy, ReasonUnauthenticated, ReasonStepUp:
		return v.Err == nil
	}
	return false
}

// projection is the fields that equal requests for the app agree in; false if none are known or may be used.
func (e *Engine) projection(ctx context.Context, app string) ([]field, bool) {
	p := e.plans[app]
	if p == nil || e.memo == nil || e.memo.off.Load() {
		return nil, false
	}
	r := p.result.Load()
	if r == nil && e.analyst.mu.TryLock() { // whoever comes while an analysis runs is evaluated
		r = e.planLocked(ctx, app, p)
		e.analyst.mu.Unlock()
	}
	if r == nil || r.err != nil || r.forget != nil {
		return nil, false
	}
	return r.fields, true
}

func (e *Engine) planLocked(ctx context.Context, app string, p *plan) *planResult {
	if r := p.result.Load(); r != nil {
		return r
	}
	r := new(planResult)
	r.fields, r.err = e.analyst.dependenciesLocked(context.WithoutCancel(ctx), app, p.own)
	r.forget = memorable(r.fields)
	p.result.Store(r)
	return r
}

// Dependencies are the input fields that the decisions on app can depend on, such as subject.groups. The error says
// why they cannot be told, or differ in every request, so that every request for the app is evaluated.
func (e *Engine) Dependencies(ctx context.Context, app string) ([]string, error) {
	r, err := e.planned(ctx, app)
	if err == nil {
		err = r.forget
	}
	if err != nil {
		return nil, err
	}
	return pathsOf(r.fields), nil
}

// planned is the analysis of an app that exists, made when it is first asked for.
func (e *Engine) planned(ctx context.Context, app string) (*planResult, error) {
	p := e.plans[app]
	if p == nil {
		return nil, fmt.Errorf("no app %q", app)
	}
	e.analyst.mu.Lock()
	r := e.planLocked(ctx, app, p)
	e.analyst.mu.Unlock()
	return r, r.err
}

// result is the variable of the query.
const result = ast.Var("result")

// neverNow stands for the wall clock, which no policy can read.
var neverNow = time.Unix(0, 0)

func (e *Engine) evaluate(ctx context.Context, in *Input, limit time.Duration, tracers ...topdown.QueryTracer) (v *Verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = doubt(ReasonError, fmt.Errorf("evaluating the policy: panic: %v", p))
		}
	}()
	watch := &deadline{ctx: ctx, began: time.Now(), limit: limit}
	var answer *ast.Term
	query := topdown.NewQuery(e.query).
		WithCompiler(e.compiler).
		WithStore(e.store).
		WithTransaction(e.txn).
		WithBaseCache(e.documents).
		WithBuiltins(e.builtins).
		WithStrictBuiltinErrors(true).
		WithMetrics(metrics.NoOp()).
		WithTime(neverNow).
		WithCancel(watch).
		WithInput(e.input(in, len(tracers) > 0))
	for _, t := range tracers {
		query = query.WithQueryTracer(t)
	}
	err := query.Iter(ctx, func(r topdown.QueryResult) error {
		answer = r[result]
		return nil
	})
	switch {
	case watch.passed:
		return doubt(ReasonTimeout, fmt.Errorf("evaluating the policy took longer than %v", limit))
	case err != nil && ctx.Err() != nil:
		return doubt(ReasonError, fmt.Errorf("evaluating the policy: %w", context.Cause(ctx)))
	case err != nil:
		return doubt(ReasonError, fmt.Errorf("evaluating the policy: %w", err))
	}
	return verdictOf(answer, e.bundle.contents.manifest.Obligations)
}

// input is what an evaluation reads. Tracers may look at all of it.
func (e *Engine) input(in *Input, traced bool) *ast.Term {
	if e.byField && !traced {
		return in.lazyTerm()
	}
	return in.term()
}

// deadline is a topdown.Cancel that the evaluation polls before each expression, in its own goroutine: no timer, no
// second goroutine. What a single built-in function may take between two polls, guards bound.
//
// An evaluation of few steps that takes long is not the policy's doing but that of a machine that gave it no time. It
// is granted patience, so that a busy moment does not turn people away.
type deadline struct {
	ctx    context.Context
	began  time.Time
	limit  time.Duration
	steps  int
	passed bool
	ended  bool
}

const (
	pollEvery = 16    // steps: looking at the clock costs half a step
	fewSteps  = 4_000 // some milliseconds; the shipped policy takes a few hundred
	patience  = 10    // times the limit
)

func (d *deadline) Cancelled() bool {
	if d.steps++; d.steps%pollEvery != 0 || d.ended {
		return d.ended
	}
	took := time.Since(d.began)
	d.passed = took > d.limit && (d.steps > fewSteps || took > patience*d.limit)
	d.ended = d.passed || d.ctx.Err() != nil
	return d.ended
}

func (d *deadline) Cancel() { d.ended = true }
