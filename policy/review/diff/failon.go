package diff

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"sallyport/policy/review"
)

// Condition is a CEL expression over one finding, such as gained && resource.sensitivity == "high".
type Condition struct {
	text    string
	program cel.Program
}

// costLimit bounds the work on one finding, in CEL's units: thousands of people looked through.
const costLimit = 5_000_000

// Compile checks a condition. Its variables are one flag for each change (gained, step_up_removed, revoked, step_up_added,
// error, obligations_changed, reason_only), change, source, app, resource{id, owner, sensitivity, labels}, people, usual,
// groups, methods, paths (empty lists: any), anonymous, from and to{allow, reason, code, rule}, and requests.
func Compile(text string) (*Condition, error) {
	options := []cel.EnvOption{
		cel.Variable("change", cel.StringType), cel.Variable("source", cel.StringType), cel.Variable("app", cel.StringType),
		cel.Variable("resource", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("from", cel.MapType(cel.StringType, cel.DynType)), cel.Variable("to", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("anonymous", cel.BoolType), cel.Variable("requests", cel.IntType),
	}
	for _, list := range []string{"people", "usual", "groups", "methods", "paths"} {
		options = append(options, cel.Variable(list, cel.ListType(cel.StringType)))
	}
	for _, change := range review.Changes() {
		options = append(options, cel.Variable(string(change), cel.BoolType))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("preparing conditions: %w", err)
	}
	checked, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, fmt.Errorf("condition %q: %w", text, issues.Err())
	}
	if checked.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("condition %q: it is a %s, not true or false", text, checked.OutputType())
	}
	program, err := env.Program(checked, cel.CostLimit(costLimit))
	if err != nil {
		return nil, fmt.Errorf("condition %q: %w", text, err)
	}
	return &Condition{text, program}, nil
}

// String is the condition as it was written.
func (c *Condition) String() string { return c.text }

// Met are the findings that meet the condition. Where it cannot be told, such as for a label that an app does not have,
// the error says so.
func (c *Condition) Met(r *Report) ([]*Finding, error) {
	var met []*Finding
	for i := range r.Findings {
		f := &r.Findings[i]
		result, _, err := c.program.Eval(f.variables())
		if err != nil {
			return nil, fmt.Errorf("condition %q on a finding about %s: %w", c.text, f.App, err)
		}
		if result == types.True {
			met = append(met, f)
		}
	}
	return met, nil
}

func (f *Finding) variables() map[string]any {
	v := map[string]any{
		"change": string(f.Change), "source": f.Source, "app": f.App, "people": orEmpty(f.People), "usual": orEmpty(f.Usual), "groups": orEmpty(f.Groups),
		"methods": orEmpty(f.Methods), "paths": orEmpty(f.Paths), "anonymous": f.Anonymous(), "requests": f.Requests,
		"resource": map[string]any{"id": f.Resource.ID, "owner": f.Resource.Owner, "sensitivity": f.Resource.Sensitivity, "labels": labels(f.Resource.Labels)},
		"from":     f.From.variables(), "to": f.To.variables(),
	}
	for _, change := range review.Changes() {
		v[string(change)] = f.Change == change
	}
	return v
}

func (a *Answer) variables() map[string]any {
	return map[string]any{"allow": a.Allow, "reason": a.Reason, "code": a.Code, "rule": a.Rule}
}

func labels(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
