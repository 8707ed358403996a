package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// parse reads the modules. Errors are Problems.
func (c *contents) parse() (map[string]*ast.Module, error) {
	caps, err := capabilities(c.capabilities)
	if err != nil {
		return nil, err
	}
	options := ast.ParserOptions{Capabilities: caps, RegoVersion: ast.RegoV1}
	modules := make(map[string]*ast.Module, len(c.modules))
	var problems Problems
	for _, m := range c.modules {
		parsed, err := ast.ParseModuleWithOpts(m.name, string(m.content), options)
		if err != nil {
			problems = append(problems, parseProblems(m.name, err)...)
			continue
		}
		modules[m.name] = parsed
	}
	if problems != nil {
		return nil, problems
	}
	return modules, nil
}

func parseProblems(name string, err error) Problems {
	if errs, ok := errors.AsType[ast.Errors](err); ok {
		return problemsOf(errs)
	}
	if one, ok := errors.AsType[*ast.Error](err); ok && one.Location != nil && one.Location.Row > 0 {
		return problemsOf(ast.Errors{one})
	} else if ok {
		return Problems{{File: name, Text: one.Message}}
	}
	return Problems{{File: name, Text: err.Error()}}
}

// compile checks the modules and makes them ready to run. Errors are Problems.
func (c *contents) compile() (*ast.Compiler, error) {
	modules, err := c.parse()
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(c.capabilities)
	if err != nil {
		return nil, err
	}
	occupied, err := c.occupied()
	if err != nil {
		return nil, err
	}
	compiler := newCompiler(caps).WithPathConflictsCheck(occupied)
	compiler.Compile(modules)
	if compiler.Failed() {
		return nil, problemsOf(compiler.Errors)
	}
	if len(compiler.GetRulesExact(refDecision)) == 0 {
		return nil, fmt.Errorf("the policy has no %v", refDecision)
	}
	return compiler, nil
}

func newCompiler(caps *ast.Capabilities) *ast.Compiler {
	return ast.NewCompiler().
		WithCapabilities(caps).
		WithDefaultRegoVersion(ast.RegoV1).
		WithStageAfterID(ast.StageResolveRefs, ast.CompilerStageDefinition{
			Name:       "Sallyport",
			MetricName: "compile_stage_sallyport",
			Stage:      adapt,
		})
}

// adapt runs when names are resolved: it refuses what would only show as a recursion in the shipped Rego, and puts our
// guards in front of built-in functions.
func adapt(c *ast.Compiler) *ast.Error {
	for _, name := range sortedNames(c.Modules) {
		m := c.Modules[name]
		if strings.HasPrefix(name, operatorPrefix) {
			if err := refuseRecursion(m); err != nil {
				return err
			}
		}
		guardCalls(m)
	}
	return nil
}

func refuseRecursion(m *ast.Module) (found *ast.Error) {
	ast.WalkRefs(m, func(r ast.Ref) bool {
		if found == nil && r.HasPrefix(refDecision) {
			found = ast.NewError(ast.RecursionErr, r[0].Location,
				"data.sallyport.authz.decision asks this app's package, so the package cannot ask it in turn")
		}
		return found != nil
	})
	return found
}

// Compile prepares a bundle for evaluation. Errors in Rego are Problems.
func Compile(ctx context.Context, b *Bundle) (*Engine, error) {
	compiler := b.compiler
	if compiler == nil {
		var err error
		if compiler, err = b.contents.compile(); err != nil {
			return nil, err
		}
	}
	query, err := compiler.QueryCompiler().Compile(ast.MustParseBody("result = data.sallyport.authz.decision"))
	if err != nil {
		return nil, fmt.Errorf("preparing the policy: %w", err)
	}
	e := &Engine{
		bundle:   b,
		compiler: compiler,
		query:    query,
		builtins: guardedBuiltins(),
		byField:  readByField(compiler),
		deadline: b.deadline,
	}
	if e.deadline == 0 {
		e.deadline = DefaultDeadline
	}
	if b.memo {
		e.memo = newMemo(b.sampling)
	}
	if e.store, err = storeWith(b.contents.data, b.contents.own); err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	if e.plans, err = plansFor(b.contents.data); err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	if e.analyst, err = newAnalyst(compiler, &b.contents); err != nil {
		return nil, fmt.Errorf("preparing the policy: %w", err)
	}
	if e.txn, err = e.store.NewTransaction(ctx); err != nil {
		return nil, fmt.Errorf("preparing the policy: %w", err)
	}
	if e.documents, err = documentsOf(ctx, e.store, e.txn); err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	return e, nil
}

// storeWith keeps data.sallyport.config, and the operator's data beside it, in the evaluator's own form. Nobody writes to
// it.
func storeWith(config, own []byte) (storage.Store, error) {
	value, err := ast.ValueFromReader(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	root := ast.NewObject()
	if own != nil {
		parsed, err := ast.ValueFromReader(bytes.NewReader(own))
		if err != nil {
			return nil, err
		}
		object, ok := parsed.(ast.Object)
		if !ok {
			return nil, errors.New("the operator's data is no object")
		}
		root = object
	}
	root.Insert(key("sallyport"), ast.ObjectTerm(ast.Item(key("config"), ast.NewTerm(value))))
	return inmem.NewFromASTObject(root), nil
}

// storeOf is storeWith without any data of the operator's.
func storeOf(config []byte) (storage.Store, error) { return storeWith(config, nil) }

// occupied tells the paths below data that the operator's data takes, so that no rule is hidden by them.
func (c *contents) occupied() (func(path []string) (bool, error), error) {
	var own any = map[string]any{}
	if c.own != nil {
		if err := json.Unmarshal(c.own, &own); err != nil {
			return nil, fmt.Errorf("reading the operator's data: %w", err)
		}
	}
	return func(path []string) (bool, error) {
		at := own
		for _, step := range path {
			object, ok := at.(map[string]any)
			if at = object[step]; !ok || at == nil {
				return false, nil
			}
		}
		return true, nil
	}, nil
}

func plansFor(data []byte) (map[string]*plan, error) {
	var config configData
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, err
	}
	plans := make(map[string]*plan, len(config.Apps))
	for name, app := range config.Apps {
		plans[name] = &plan{own: app.Own}
	}
	return plans, nil
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
