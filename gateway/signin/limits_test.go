package signin_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
	"sallyport/gateway/signin"
)

// limits refuse what they are told to, with a problem.
type limits struct{ back, account, counts bool }

var errLimited = &signin.Problem{Status: http.StatusTooManyRequests, Code: signin.CodeLimited}

func (l limits) Return() error {
	if l.back {
		return errLimited
	}
	return nil
}

func (l limits) Account(person string) error {
	if l.account {
		return errLimited
	}
	return nil
}

func (l limits) Counted(string) bool { return l.counts }

// OIDC-10: a sign-in over a limit makes no session, is answered by the limit and is on record, counted where nobody is known.
func TestSignInOverALimitMakesNoSession(t *testing.T) {
	for name, c := range map[string]struct {
		limits limits
		record bool
	}{
		"back, recorded":       {limits{back: true}, true},
		"back, counted":        {limits{back: true, counts: true}, false},
		"account":              {limits{account: true}, true},
		"account, not counted": {limits{account: true, counts: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.handler = b.handler.Within(c.limits)
			b.browser().open(wikiOrigin+"/page").want(t, http.StatusTooManyRequests, signin.CodeLimited)
			if has := slices.Contains(b.records.codes(), "sign_in_failed:rate_limited"); has != c.record {
				t.Errorf("the records are %q", b.records.codes())
			}
			if all, err := b.keeper.List(t.Context(), session.Filter{}); err != nil || len(all) != 0 {
				t.Errorf("there are sessions: %v, %v", all, err)
			}
		})
	}
}

// Who has as many sessions as one person may have loses the oldest by the next sign-in, on record.
func TestOldestSessionEndsWhereThereAreTooMany(t *testing.T) {
	b := newBed(t)
	cfg := session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour, MaxPerPerson: 2}
	keeper, err := session.NewKeeper(cfg, sessiontest.NewMemory(), b.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.keeper = keeper
	b.serve(keeper, b.provider("corp", b.idp))
	var ids []string
	for range 3 {
		ids = append(ids, b.browser().open(wikiOrigin+"/page").session)
		b.later(time.Minute)
	}
	left, err := keeper.List(t.Context(), session.Filter{})
	if err != nil || len(left) != 2 || slices.ContainsFunc(left, func(s session.Session) bool { return s.ID == ids[0] }) {
		t.Errorf("of %q there are %v left, %v", ids, left, err)
	}
	if n := b.records.count("sign_out:too_many_sessions"); n != 1 {
		t.Errorf("%d ends are on record: %q", n, b.records.codes())
	}
	if err := keeper.Configure(session.Config{Idle: time.Hour, Absolute: time.Hour, MaxPerPerson: -1}); err == nil {
		t.Error("a negative number was taken")
	}
}
