package lint

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
	"sallyport/policy/schema"
)

// findConfiguration tells what is wrong with the configuration that the policy belongs to.
func findConfiguration(p *pass) {
	for _, problem := range p.Problems {
		p.problem(problem)
	}
}

// findSyntax tells what does not parse.
func findSyntax(p *pass) {
	for _, problem := range p.unparsed {
		p.problem(problem)
	}
}

func (p *pass) problem(problem policy.Problem) {
	p.add(Finding{Position: Position{problem.File, problem.Line, problem.Column}, Text: problem.Text})
}

// findCompile tells why the modules cannot run: names that do not exist, conflicts, recursion, foreign packages.
func findCompile(p *pass) {
	if p.Apps != nil {
		for _, problem := range policy.PackageProblems(p.modules, p.Apps) {
			p.problem(problem)
		}
	}
	p.compilerSays(ast.CompileErr, ast.UnsafeVarErr, ast.RecursionErr)
}

// findTypes tells where a policy reads what no input has, or compares what can never be equal.
func findTypes(p *pass) {
	p.compilerSays(ast.TypeErr)
	findMixed(p)
}

// findMixed tells numbers that are compared with texts. In the order of Rego each number is less than each text.
func findMixed(p *pass) {
	known := schema.InputFields()
	p.calls(func(c call) {
		if mirrored[c.op] == "" || len(c.args) != 2 {
			return
		}
		for i, a := range c.args {
			field, value := c.field(a), c.resolve(c.args[1-i])
			kind := known[strings.TrimPrefix(field, "input.")].Type
			_, isText := text(value)
			_, isNumber := number(value)
			if numeric := kind == "integer" || kind == "number"; numeric && isText || kind == "string" && isNumber {
				p.at(c.at, "compare "+article(kind)+" with its like", "%s is %s, and %v is none: each number is less than each text, so the answer is always the same", field, article(kind), value)
				return
			}
		}
	})
}

func (p *pass) compilerSays(codes ...string) {
	for _, e := range p.compiled().errors {
		for _, code := range codes {
			if e.Code == code && !p.deniedBuiltin(e) {
				p.compilerError(e)
			}
		}
	}
}

// compilerError tells an error of the compiler, with the nearest name where one does not exist.
func (p *pass) compilerError(e *ast.Error) {
	said := policy.ProblemOf(e)
	f := Finding{Position: Position{said.File, said.Line, said.Column}, Text: said.Text}
	if d, ok := e.Details.(*ast.RefErrInvalidDetail); ok && d.Pos < len(d.Ref) {
		f.Hint = nearestField(d)
	}
	p.add(f)
}

// nearestField suggests what a reference may have meant.
func nearestField(d *ast.RefErrInvalidDetail) string {
	word, ok := text(d.Ref[d.Pos])
	if !ok {
		return ""
	}
	var known []string
	for _, v := range d.OneOf {
		if name, ok := v.(ast.String); ok {
			known = append(known, string(name))
		}
	}
	near := nearest(word, known)
	if near == "" {
		return ""
	}
	meant := d.Ref[:d.Pos].Append(ast.StringTerm(near))
	return "did you mean " + meant.String() + "?"
}

// deniedBuiltin reports whether an error is one that findBuiltins tells better.
func (p *pass) deniedBuiltin(e *ast.Error) bool {
	name, undefined := strings.CutPrefix(e.Message, "undefined function ")
	_, denied := policy.DeniedBuiltins()[name]
	return undefined && denied
}

// findStrict tells what OPA's strict mode refuses besides.
func findStrict(p *pass) {
	loose := make(map[string]bool)
	for _, e := range p.compiled().errors {
		loose[e.Error()] = true
	}
	for _, e := range p.compiled().strict {
		if !loose[e.Error()] && e.Code == ast.CompileErr {
			p.problem(policy.ProblemOf(e))
		}
	}
}

// compiled is what compilers say of the modules.
type compiled struct {
	errors ast.Errors
	strict ast.Errors // and what strict mode adds
}

// compiled compiles when first asked.
func (p *pass) compiled() *compiled {
	if p.outcome == nil {
		p.outcome = new(compiled)
		if p.outcome.strict = compileAll(p.modules, true); p.outcome.strict != nil {
			p.outcome.errors = compileAll(p.modules, false)
		}
	}
	return p.outcome
}

// schemas give input its type.
func schemas() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, schema.Input())
	return set
}
