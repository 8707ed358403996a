package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/signin"
	"sallyport/policy"
)

// writing is a path as policy and app see it, and as it is written for the app; of none, both are empty.
type writing struct{ path, escaped string }

// destinationIn is the place that a COPY or MOVE to app writes to. It has to be the app's, too.
func (s *Snapshot) destinationIn(app *App, q *canon.Request) (to writing, ok bool) {
	if q.Destination == "" {
		return writing{}, true
	}
	found := s.Routes.Match(q.Host, q.Destination)
	if found == nil || found.Name != app.Name || strings.HasPrefix(q.Destination+"/", signin.Prefix) {
		return writing{}, false
	}
	to.path, to.escaped, ok = q.StripDestination(app.StripPrefix)
	return to, ok
}

// elsewhere refuses a destination that is not the app's: one app must not make another write.
func (x *exchange) elsewhere() error {
	return x.hidden(&Refusal{Status: http.StatusForbidden, Effect: audit.Reject, Reason: string(canon.SecondTarget),
		Detail: "destination " + canon.Escape(x.req.Destination), Public: "Only a place of the same app can be written to."})
}

// judge asks the policy about a request and, where that is allowed and writes to another place too, about a PUT there.
// It returns the question that got the first no, or else the request itself, with the answer: what is recorded can be
// recomputed either way. The error is a *policy.TooLargeError.
func (s *Snapshot) judge(ctx context.Context, in *policy.Input, to writing) (*policy.Input, *policy.Verdict, error) {
	if err := in.Bound(); err != nil {
		return in, nil, err
	}
	verdict := s.Policy.Decide(ctx, in)
	if to.path == "" || !verdict.Allow {
		return in, verdict, nil
	}
	put := *in
	put.Action.Method, put.Action.Name = http.MethodPut, policy.ActionName(http.MethodPut, "")
	put.Resource.Path, put.Resource.Segments, put.Resource.Query = to.path, segments(to.path), ""
	if err := put.Bound(); err != nil {
		return in, nil, err
	}
	if second := s.Policy.Decide(ctx, &put); !second.Allow {
		return &put, second, nil
	}
	return in, verdict, nil
}

// bothTargets is for the record of a COPY or MOVE: what was to be read and what was to be written.
func (x *exchange) bothTargets() json.RawMessage {
	if x.destination.path == "" {
		return nil
	}
	detail, err := json.Marshal(struct {
		Method      string `json:"method"`
		Path        string `json:"path"`
		Destination string `json:"destination"`
	}{x.req.Method, x.path, x.destination.path})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return detail
}
