package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sallyport/policy"
)

// Subject is the policy of one app, as explanations of several requests share it. It is not safe for concurrent use.
type Subject struct {
	engine  *policy.Engine
	app     *policy.App
	zone    *time.Location
	options Options
	sources map[string][]source // of the operator's modules, read when they are first asked for
}

// decide is the engine's answer, evaluated.
func (s *Subject) decide(ctx context.Context, in *policy.Input) *policy.Verdict {
	return s.engine.Trace(ctx, in)
}

// maxSteps bounds one observed evaluation: some 20 ms.
const maxSteps = 100_000

// maxNodes bounds the rules that are shown or searched.
const maxNodes = 400

var errCut = errors.New("the policy asks more rules than are shown")

// observation is what was seen of one evaluation of the app's own package.
type observation struct {
	tops   []*asked
	access bool // it asked data.sallyport.authz.access
	err    error

	document map[string]any // the input
	frames   map[uint64]*frame
	count    int
}

// asked is one evaluation of one rule.
type asked struct {
	of     *observation
	rule   *ast.Rule
	caller *asked
	site   int // the expression of the caller that asks it
	holds  bool
	reach  int           // the furthest expression that was evaluated
	locals *ast.ValueMap // when it was
	now    int           // the expression that is being evaluated
	asks   map[int][]*asked
}

// frame is a query of the evaluator: a rule's body, or one nested in it, such as that of a not.
type frame struct {
	rule   *asked // nil: not of interest
	nested bool
}

// observe evaluates the app's decision and notes every rule of the operator's.
func (s *Subject) observe(ctx context.Context, in *policy.Input) *observation {
	o := &observation{document: documentOf(in), frames: map[uint64]*frame{0: {}}}
	_, err := s.engine.Observe(ctx, in, decisionOf(s.app.Name), maxSteps, o)
	if o.err == nil {
		o.err = err
	}
	return o
}

func decisionOf(app string) ast.Ref {
	return ast.MustParseRef("data.sallyport.app").Append(ast.StringTerm(app)).Append(ast.StringTerm("decision"))
}

// Enabled and Config make an observation a topdown.QueryTracer.
func (o *observation) Enabled() bool { return true }

// Config wants the values of variables with each event.
func (o *observation) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent notes what the evaluator does.
func (o *observation) TraceEvent(event topdown.Event) {
	switch event.Op {
	case topdown.EnterOp:
		o.enter(&event)
	case topdown.EvalOp:
		o.evaluate(&event)
	case topdown.ExitOp:
		if f := o.frames[event.QueryID]; f != nil && f.rule != nil && !f.nested {
			f.rule.holds = true
		}
	}
}

func (o *observation) enter(event *topdown.Event) {
	parent := o.frames[event.ParentID]
	if parent == nil {
		parent = new(frame)
	}
	rule, is := event.Node.(*ast.Rule)
	switch {
	case !is && event.QueryID == 0:
	case !is:
		o.frames[event.QueryID] = &frame{rule: parent.rule, nested: true}
	case !operators(rule):
		o.access = o.access || strings.HasPrefix(rule.Module.Package.Path.String(), "data.sallyport.authz")
		o.frames[event.QueryID] = new(frame)
	case o.count == maxNodes:
		o.err = errCut
		o.frames[event.QueryID] = new(frame)
	default:
		o.count++
		o.frames[event.QueryID] = &frame{rule: o.add(&asked{of: o, rule: rule, caller: parent.rule, reach: -1, asks: map[int][]*asked{}})}
	}
}

func (o *observation) add(a *asked) *asked {
	if a.caller == nil {
		o.tops = append(o.tops, a)
	} else {
		a.site = a.caller.now
		a.caller.asks[a.site] = append(a.caller.asks[a.site], a)
	}
	return a
}

func (o *observation) evaluate(event *topdown.Event) {
	f := o.frames[event.QueryID]
	e, is := event.Node.(*ast.Expr)
	if f == nil || f.rule == nil || f.nested || !is {
		return
	}
	f.rule.now = e.Index
	if e.Index > f.rule.reach {
		f.rule.reach, f.rule.locals = e.Index, event.Locals
	}
}

// local is the value of a variable at the furthest expression; nil: it had none.
func (a *asked) local(v ast.Var) ast.Value {
	if a.locals == nil {
		return nil
	}
	return a.locals.Get(v)
}

// documentOf is the input as a JSON document.
func documentOf(in *policy.Input) (document map[string]any) {
	d := json.NewDecoder(bytes.NewReader(in.AppendJSON(nil)))
	d.UseNumber() // time_ns has more digits than a float64
	if err := d.Decode(&document); err != nil {
		panic("BUG: policy input: " + err.Error())
	}
	return document
}

// field is the value at a place under input, such as subject.groups; nil: there is none.
func (o *observation) field(path string) any { return get(o.document, path) }

// operators reports whether a rule is the operator's own.
func operators(r *ast.Rule) bool {
	return r.Location != nil && strings.HasPrefix(r.Location.File, "operator/")
}

// each visits every rule that was asked.
func (o *observation) each(visit func(a *asked)) {
	var walk func(list []*asked)
	walk = func(list []*asked) {
		for _, a := range list {
			visit(a)
			for i := range a.rule.Body {
				walk(a.asks[i])
			}
		}
	}
	walk(o.tops)
}
