package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
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
