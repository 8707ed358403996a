package verify

import (
	"context"
	"errors"
)

// skips are checks that tests leave out to see that something else notices.
type skips struct{}

// run is one call of Run.
type run struct {
	ctx    context.Context
	path   string
	opts   Options
	report *Report
}

func newRun(ctx context.Context, path string, opts Options) *run {
	return &run{ctx: ctx, path: path, opts: opts, report: &Report{Path: path}}
}

func (r *run) run() (*Report, error) {
	r.report.Result = CannotRun
	return r.report, errors.New("there is no audit log here")
}
