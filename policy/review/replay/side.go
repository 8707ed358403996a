package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"sallyport/policy"
)

// side is a policy with what its configuration puts into inputs.
type side struct {
	*policy.Engine
	zone *time.Location
	apps map[string]appFacts
}

// appFacts are what a configuration says of an app to the policy.
type appFacts struct {
	Owner       string            `json:"owner"`
	Sensitivity string            `json:"sensitivity"`
	Labels      map[string]string `json:"labels"`
}

func newSide(e *policy.Engine) (*side, error) {
	var data struct {
		Timezone string              `json:"timezone"`
		Apps     map[string]appFacts `json:"apps"`
	}
	if err := json.Unmarshal(e.Bundle().Data(), &data); err != nil {
		return nil, fmt.Errorf("reading the data of policy %s: %w", e.Digest(), err)
	}
	zone, err := time.LoadLocation(data.Timezone)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", e.Digest(), err)
	}
	return &side{Engine: e, zone: zone, apps: data.Apps}, nil
}

// view is an input as this policy's gateway would have made it of the same request.
func (s *side) view(in *policy.Input) *policy.Input {
	seen := *in
	if app, known := s.apps[in.Resource.ID]; known {
		seen.Resource.Owner, seen.Resource.Sensitivity = app.Owner, app.Sensitivity
		if !maps.Equal(app.Labels, in.Resource.Labels) {
			seen.Resource.Labels = app.Labels
		}
	}
	if in.Context.TimeNS != 0 { // a source that does not hold it has the hours of one zone
		seen.Context.SetTime(time.Unix(0, in.Context.TimeNS), s.zone)
	}
	return &seen
}

// reads is what the policy's decisions on an app depend on; all of the input where that cannot be told.
func (s *side) reads(ctx context.Context, app string) *policy.Projection {
	p, err := s.Projection(ctx, app)
	if err != nil {
		return policy.WholeInput()
	}
	return p
}
