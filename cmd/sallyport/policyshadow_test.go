package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/gateway/shadow"
	"sallyport/policy/review"
)

func (g *scripted) Shadow() admin.ShadowStatus {
	at := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	return admin.ShadowStatus{Running: true, Name: "./next\x1b[31m", Why: "more people", Who: "uid:7 ada", Report: &shadow.Report{
		Candidate: "sha256:bb", Active: "sha256:aa", Started: at, Since: at, CleanSince: at.Add(time.Hour), Compared: 1200, Dropped: 34,
		Changes: map[review.Change]uint64{review.Gained: 7, review.ReasonOnly: 2},
		Differences: []shadow.Difference{{App: "wiki", Change: review.Gained, From: shadow.Answer{Reason: "policy"}, To: shadow.Answer{Allow: true, Reason: "allow", Rule: "wiki[0]"},
			Requests: 7, People: 1, Last: at.Add(time.Hour), Examples: []shadow.Example{{Record: "0193", Person: review.Person{ID: "corp|9", Name: "gil\u202e@corp.test"}}}}},
		Latency: shadow.Latency{Active: shadow.Percentiles{P50: 16 * time.Microsecond}, Candidate: shadow.Percentiles{P50: 17 * time.Microsecond}},
	}}
}

func (g *scripted) StartShadow(_ context.Context, _ *audit.Actor, what admin.ShadowStart) error {
	return g.did(fmt.Sprintf("try %s because %s, an archive: %t", what.Name, what.Why, len(what.Archive) > 0))
}

func (g *scripted) StopShadow(context.Context, *audit.Actor) (admin.ShadowStatus, error) {
	return g.Shadow(), g.did("stop trying")
}

func (g *scripted) PromoteShadow(_ context.Context, _ *audit.Actor, what admin.ShadowPromote) error {
	if !what.Force {
		return errors.New("access would have differed")
	}
	return g.did("promote because " + what.Why)
}
