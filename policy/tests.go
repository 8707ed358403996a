package policy

import (
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Tests are a policy beside modules that test it, for a test runner. The compiler has yet to compile the modules, since
// a runner adds stages of its own. It knows the functions that policies may call, and no other: a test passes with what
// the gateway has.
type Tests struct {
	Modules  map[string]*ast.Module // the policy's under their own names, the tests under testPrefix
	Compiler *ast.Compiler
	Builtins map[string]*topdown.Builtin // those that OPA does not have
}

// testPrefix keeps the names of tests apart from those of the policy's modules.
const testPrefix = "test:"

// WithTests parses tests of the policy. Errors are Problems.
func (b *Bundle) WithTests(tests []Source) (*Tests, error) {
	modules, err := b.contents.parse()
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(b.contents.capabilities)
	if err != nil {
		return nil, err
	}
	options := ast.ParserOptions{Capabilities: caps, RegoVersion: ast.RegoV1}
	var problems Problems
	for _, t := range tests {
		m, err := ast.ParseModuleWithOpts(t.Name, string(t.Content), options)
		if err != nil {
			problems = append(problems, parseProblems(t.Name, err)...)
			continue
		}
		modules[testPrefix+t.Name] = m
	}
	if problems != nil {
		return nil, problems
	}
	compiler := newCompiler(caps).WithEnablePrintStatements(true)
	return &Tests{Modules: modules, Compiler: compiler, Builtins: guardedBuiltins()}, nil
}

// Explain reads the errors of the compiler as Problems; other errors are returned as they are.
func (t *Tests) Explain(err error) error {
	if errs, ok := errors.AsType[ast.Errors](err); ok {
		return problemsOf(errs)
	}
	return err
}
