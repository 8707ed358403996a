package matrix

import (
	"slices"
	"testing"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
)

// A change of what the shipped policy refuses by is a change of answers, under the circumstances that it refuses.
func TestChangesOfGuardsAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from, to policy.App
		own      string
		change   review.Change
		other    string
		labels   []string // none: nothing changes
	}{
		"other sites admitted": {to: policy.App{CrossSite: true}, change: review.Gained,
			other: "context.request.cross_site_unsafe", labels: []string{"true"}},
		"other sites no longer admitted": {from: policy.App{CrossSite: true}, change: review.Revoked,
			other: "context.request.cross_site_unsafe", labels: []string{"true"}},
		"blocks": {to: policy.App{ShieldThreshold: 5}, change: review.Revoked,
			other: "context.shield", labels: []string{"timeout", "score 5", "score 6", "score 60"}},
		"detects only": {from: policy.App{ShieldThreshold: 5}, change: review.Gained,
			other: "context.shield", labels: []string{"timeout", "score 5", "score 6", "score 60"}},
		"lower threshold": {from: policy.App{ShieldThreshold: 10}, to: policy.App{ShieldThreshold: 7}, change: review.Revoked,
			other: "context.shield", labels: []string{"score 7", "score 8", "score 9"}},
		"before a package": {to: policy.App{ShieldThreshold: 5}, own: `decision := {"allow": true}`, change: review.Revoked,
			other: "context.shield", labels: []string{"timeout", "score 5", "score 6", "score 60"}},
		"for nobody": {to: policy.App{ShieldThreshold: 5, CrossSite: true}, own: `decision := {"allow": false}`},
	} {
		engines := [2]*policy.Engine{}
		for i, app := range []policy.App{c.from, c.to} {
			app.Name, app.Access = "w", policy.Access{{Groups: []string{"staff"}}}
			w := &world{apps: []policy.App{app}, own: map[string]string{}, zone: "UTC"}
			if c.own != "" {
				w.own["w"] = c.own
			}
			engines[i] = w.engine(t)
		}
		ann := directory.Person{ID: "corp|ann", Name: "Ann", Type: policy.TypeUser, Groups: []string{"staff"}}
		r, err := Run(t.Context(), Config{From: engines[0], To: engines[1], People: []directory.Person{ann}, Now: testNow})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Incomplete) > 0 {
			t.Errorf("%s: incomplete: %q", name, r.Incomplete)
		}
		var labels []string // over findings that differ in their reason
		for _, f := range r.Findings {
			if f.Change != c.change || len(f.When.Other) != 1 {
				t.Errorf("%s: got %s when %q, want %s", name, f.Change, f.When.Other, c.change)
			}
			labels = append(labels, f.When.Other[c.other]...)
		}
		slices.Sort(labels)
		slices.Sort(c.labels)
		if !slices.Equal(labels, c.labels) {
			t.Errorf("%s: got %s when %q, want when it is one of %q", name, c.change, labels, c.labels)
		}
	}
}
