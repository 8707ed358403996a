package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRateLimitIsARateThatCanBeMeant(t *testing.T) {
	long := strings.Repeat("x", 64)
	for obligations, want := range map[string]struct {
		reason string
		rates  []string
	}{
		``: {ReasonAllow, nil},
		`{"type": "rate_limit", "requests": 1, "per_s": 1}`:                                    {ReasonAllow, []string{"exports: 1 in 1"}},
		`{"type": "rate_limit", "requests": 1000000, "per_s": 86400, "class": "` + long + `"}`: {ReasonAllow, []string{long + ": 1000000 in 86400"}},
		`{"type": "rate_limit", "requests": 5, "per_s": 60}, {"type": "rate_limit", "requests": 50, "per_s": 3600, "class": "day"}, {"type": "reauthorize", "every_s": 60}`: {
			ReasonAllow, []string{"exports: 5 in 60", "day: 50 in 3600"}},
		`{"type": "rate_limit"}`:                                                      {ReasonError, nil},
		`{"type": "rate_limit", "requests": 5}`:                                       {ReasonError, nil},
		`{"type": "rate_limit", "per_s": 5}`:                                          {ReasonError, nil},
		`{"type": "rate_limit", "requests": 0, "per_s": 1}`:                           {ReasonError, nil},
		`{"type": "rate_limit", "requests": 1000001, "per_s": 1}`:                     {ReasonError, nil},
		`{"type": "rate_limit", "requests": 1, "per_s": 0}`:                           {ReasonError, nil},
		`{"type": "rate_limit", "requests": 1, "per_s": 86401}`:                       {ReasonError, nil},
		`{"type": "rate_limit", "requests": 0.5, "per_s": 1}`:                         {ReasonError, nil},
		`{"type": "rate_limit", "requests": "1", "per_s": 1}`:                         {ReasonError, nil},
		`{"type": "rate_limit", "requests": 1, "per_s": 1, "class": 7}`:               {ReasonError, nil},
		`{"type": "rate_limit", "requests": 1, "per_s": 1, "class": "` + long + `x"}`: {ReasonError, nil},
		`{"type": "rate_limit", "requests": 1, "per_s": 1, "burst": 7}`:               {ReasonUnknownObligation, nil},
		`{"type": "reauthorize", "every_s": 60, "class": "x"}`:                        {ReasonUnknownObligation, nil},
	} {
		cfg := Config{Bundle: writeFolder(t, map[string]string{"wiki.rego": "package sallyport.app[\"wiki\"]\n\n" +
			`decision := {"allow": true, "reasons": [{"code": "allow"}, {"code": "x", "rule": "exports"}], "obligations": [` + obligations + "]}"})}
		e, err := Compile(t.Context(), mustBuild(t, cfg, wikiApp, Reauthorize, RateLimit))
		if err != nil {
			t.Fatal(err)
		}
		v := e.Decide(t.Context(), person("wiki"))
		var rates []string
		for class, o := range v.RateLimits() {
			rates = append(rates, fmt.Sprintf("%s: %d in %d", class, o.Requests, o.PerS))
		}
		if v.Reason != want.reason || !reflect.DeepEqual(rates, want.rates) {
			t.Errorf("%s: got %s %q (%v), want %s %q", obligations, v.Reason, rates, v.Err, want.reason, want.rates)
		}
	}
}

func TestDecisionsWithoutRateLimitsListNoneForFree(t *testing.T) {
	e := newEngine(t, Config{}, company(), nil)
	v := e.Decide(t.Context(), employee("app-05"))
	if n := testing.AllocsPerRun(100, func() {
		for range v.RateLimits() {
			t.Error("got a rate limit, want none")
		}
	}); n > 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// Of several obligations the strictest holds, and one that demands nothing, or more than there can be, is none.
func TestStrictestTermAndStepUpHold(t *testing.T) {
	v := &Verdict{Decision: Decision{Obligations: []Obligation{{Type: SessionTerm, MaxAgeS: 600}, {Type: SessionTerm, MaxAgeS: 300, IdleS: 60}, {Type: SessionTerm, IdleS: 90},
		{Type: StepUp, ACR: []string{"gold", "silver"}, MaxAgeS: 900}, {Type: StepUp, MFA: true, ACR: []string{"silver", "bronze"}, MaxAgeS: 60}, {Type: StepUp}}}}
	if maxAge, idle := v.SessionTerm(); maxAge != 5*time.Minute || idle != time.Minute {
		t.Errorf("got %v and %v, want 5m and 1m", maxAge, idle)
	}
	if mfa, acr, maxAge := v.StepUp(); !mfa || !slices.Equal(acr, []string{"silver"}) || maxAge != time.Minute {
		t.Errorf("got %v, %q and %v", mfa, acr, maxAge)
	}
	for _, o := range []Obligation{{Type: SessionTerm}, {Type: SessionTerm, MaxAgeS: maxTermS + 1}, {Type: SessionTerm, MaxAgeS: 60, IdleS: maxTermS + 1}} {
		if o.check() == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, o := range []Obligation{{Type: SessionTerm, MaxAgeS: 60}, {Type: SessionTerm, IdleS: 60}} {
		if err := o.check(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
