package recheck

import (
	"errors"
	"sync/atomic"

	"sallyport/authn/session"
)

// Results counts rechecks by what came of them, since the start.
type Results struct {
	Unchanged int64 // the provider said what it had said before
	Changed   int64 // it said something else: see Config.Renewed
	Elsewhere int64 // another process asked, or the person signed in again
	Ended     int64 // the session ended
	Browser   int64 // the person's browser must pass by the provider
	Failed    int64 // nothing was learned
}

type results struct{ unchanged, changed, elsewhere, ended, browser, failed atomic.Int64 }

func (t *task) result(err error) *atomic.Int64 {
	r := &t.results
	switch {
	case errors.Is(err, session.ErrNoSession):
		return &r.ended
	case errors.Is(err, ErrBrowser):
		return &r.browser
	case err != nil:
		return &r.failed
	case t.outcome == notAsked:
		return &r.elsewhere
	case t.changed:
		return &r.changed
	}
	return &r.unchanged
}

// Results returns the counts.
func (r *Rechecker) Results() Results {
	c := &r.results
	return Results{Unchanged: c.unchanged.Load(), Changed: c.changed.Load(), Elsewhere: c.elsewhere.Load(),
		Ended: c.ended.Load(), Browser: c.browser.Load(), Failed: c.failed.Load()}
}
