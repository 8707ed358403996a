package policy

import "context"

// Projection is what the decisions on one app can depend on: requests that agree in it get the same answer.
type Projection struct{ fields []field }

// Projection tells what decisions on app depend on, on one that the policy does not know too. The error says why that
// cannot be told: all of the input counts.
func (e *Engine) Projection(ctx context.Context, app string) (*Projection, error) {
	if e.plans[app] == nil {
		return &Projection{readOfUnknown[:]}, nil
	}
	r, err := e.planned(ctx, app)
	if err != nil {
		return nil, err
	}
	return &Projection{r.fields}, nil
}

// readOfUnknown is what decisions on an app without rules can depend on: strangers are asked to sign in.
var readOfUnknown = [...]field{fieldSubjectType, fieldActionName, fieldResourceID, fieldCrossOrigin}

// WholeInput is the projection of a policy of which nothing better is known.
func WholeInput() *Projection {
	p := new(Projection)
	for f := range fields {
		p.fields = append(p.fields, f)
	}
	return p
}

// With is what either of two projections keeps.
func (p *Projection) With(other *Projection) *Projection {
	var set fieldSet
	for _, f := range p.fields {
		set[f] = true
	}
	for _, f := range other.fields {
		set[f] = true
	}
	return &Projection{set.list()}
}

// Fields are the places under input, such as subject.groups, in the order of the input's form.
func (p *Projection) Fields() []string { return pathsOf(p.fields) }

// Append appends the projection of an input to b: two inputs have the same one exactly if they agree in the fields.
func (p *Projection) Append(b []byte, in *Input) []byte { return in.project(b, p.fields) }

func pathsOf(list []field) []string {
	paths := make([]string, len(list))
	for i, f := range list {
		paths[i] = fieldPaths[f]
	}
	return paths
}
