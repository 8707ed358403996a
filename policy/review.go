package policy

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policies"
)

// What a check looks at before anything is known to compile.

// ReadSources reads the operator's Rego where Config.Bundle says, and adds the shipped Rego; without a bundle it is the
// shipped Rego alone.
func ReadSources(cfg Config) ([]Source, error) {
	own, err := readOwn(cfg)
	if err != nil {
		return nil, err
	}
	var list []Source
	for _, name := range own.names() {
		list = append(list, Source{operatorPrefix + name, own.modules[name]})
	}
	for name, content := range policies.Modules() {
		list = append(list, Source{name, content})
	}
	return list, nil
}

// ParseSources reads Rego together with its annotations. What does not parse is left out of the modules and told in the
// problems.
func ParseSources(sources []Source) (map[string]*ast.Module, Problems) {
	options := ast.ParserOptions{Capabilities: reviewCapabilities(), RegoVersion: ast.RegoV1, ProcessAnnotation: true}
	modules := make(map[string]*ast.Module, len(sources))
	var problems Problems
	for _, s := range sources {
		m, err := ast.ParseModuleWithOpts(s.Name, string(s.Content), options)
		if err != nil {
			problems = append(problems, parseProblems(s.Name, err)...)
			continue
		}
		modules[s.Name] = m
	}
	return modules, problems
}

// PackageProblems tells which packages of the operator's modules are not theirs to define, or for no app.
func PackageProblems(modules map[string]*ast.Module, apps []App) Problems {
	_, err := appPackages(modules, apps)
	problems, _ := errors.AsType[Problems](err)
	return problems
}

// ReviewCompiler is a compiler like the one that makes an Engine, which has compiled nothing yet: a check adds strictness
// and types.
func ReviewCompiler() *ast.Compiler { return newCompiler(reviewCapabilities()) }

// reviewCapabilities are those of policies made today.
func reviewCapabilities() *ast.Capabilities {
	caps, err := capabilities(allowed)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return caps
}

// ProblemOf says what the compiler found in the words of this package.
func ProblemOf(err *ast.Error) Problem { return problemsOf(ast.Errors{err})[0] }

// DeniedBuiltins are the built-in functions that OPA has and policies have not, with why: "it" and the reason make a
// sentence.
func DeniedBuiltins() map[string]string {
	reasons := make(map[string]string)
	for why, names := range denied {
		for _, name := range names {
			reasons[name] = why
		}
	}
	return reasons
}

// ObligationTypes are the types of obligation that a decision may name, sorted.
func ObligationTypes() []string { return slices.Sorted(maps.Keys(obligationFields)) }

// OperatorName is the name of an operator's file within their folder; false for a file that is shipped.
func (s Source) OperatorName() (string, bool) { return strings.CutPrefix(s.Name, operatorPrefix) }

// Enforced are the types of obligation that the policy's decisions may rely on.
func (b *Bundle) Enforced() []string { return b.contents.manifest.Obligations }
