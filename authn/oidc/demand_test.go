package oidc

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/test/fakeidp"
)

// asks is the authorization request of a demand.
func asks(t *testing.T, p *Provider, d Demand) url.Values {
	t.Helper()
	f := p.NewFlow()
	f.Demand = d
	to, err := p.AuthCodeURL(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, to).Query()
}

func TestDemandIsSentToTheProvider(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	plain := discoveredProvider(t, idp, nil)
	strict := discoveredProvider(t, idp, func(c *Config) {
		c.MaxAge, c.MFA.ACR, c.MFA.Request = time.Hour, []string{"silver", "gold"}, []string{"gold"}
	})
	for name, tc := range map[string]struct {
		p    *Provider
		d    Demand
		want url.Values
	}{
		"nothing":                {plain, Demand{}, url.Values{}},
		"nothing, strict":        {strict, Demand{}, url.Values{"max_age": {"3600"}}},
		"classes":                {plain, Demand{ACR: []string{"a", "b"}}, url.Values{"acr_values": {"a b"}}},
		"factors, unconfigured":  {plain, Demand{MFA: true}, url.Values{}},
		"factors":                {strict, Demand{MFA: true}, url.Values{"max_age": {"3600"}, "acr_values": {"gold"}}},
		"classes before factors": {strict, Demand{MFA: true, ACR: []string{"silver"}}, url.Values{"max_age": {"3600"}, "acr_values": {"silver"}}},
		"age":                    {plain, Demand{MaxAge: 60}, url.Values{"max_age": {"60"}}},
		"the stricter age":       {strict, Demand{MaxAge: 60}, url.Values{"max_age": {"60"}}},
		"the configured age":     {strict, Demand{MaxAge: 86400}, url.Values{"max_age": {"3600"}}},
		"fresh":                  {strict, Demand{Fresh: true}, url.Values{"max_age": {"0"}, "prompt": {"login"}}},
		"silent":                 {plain, Demand{Silent: true}, url.Values{"prompt": {"none"}}},
		"fresh cannot be silent": {plain, Demand{Fresh: true, Silent: true}, url.Values{"max_age": {"0"}, "prompt": {"login"}}},
		"hint":                   {plain, Demand{Login: "a@corp.example"}, url.Values{"login_hint": {"a@corp.example"}}},
		"hint that is none":      {plain, Demand{Login: string(make([]byte, 300))}, url.Values{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := asks(t, tc.p, tc.d)
			for _, name := range []string{"max_age", "acr_values", "prompt", "login_hint"} {
				if got.Get(name) != tc.want.Get(name) || got.Has(name) != tc.want.Has(name) {
					t.Errorf("%s is %q, want %q", name, got.Get(name), tc.want.Get(name))
				}
			}
		})
	}
}

// What a provider is asked for it may ignore: what it says it did counts. The mutant is the same answer to a sign-in without
// the demand, which succeeds.
func TestDemandIsCheckedOnReturn(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.MFA.ACR = []string{"gold"} })
	ago := func(d time.Duration) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c["auth_time"] = time.Now().Add(-d).Unix() }
	}
	says := func(name string, value any) func(jwt.MapClaims) { return func(c jwt.MapClaims) { c[name] = value } }
	for name, tc := range map[string]struct {
		d      Demand
		claims func(jwt.MapClaims)
		want   Code // empty: signs in
	}{
		"class given":             {Demand{ACR: []string{"silver", "gold"}}, says("acr", "gold"), ""},
		"class not given":         {Demand{ACR: []string{"gold"}}, says("acr", "silver"), AssuranceUnmet},
		"class not said":          {Demand{ACR: []string{"gold"}}, nil, AssuranceUnmet},
		"class is empty":          {Demand{ACR: []string{"gold"}}, says("acr", ""), AssuranceUnmet},
		"class is a list":         {Demand{ACR: []string{"gold"}}, says("acr", []string{"gold"}), AssuranceUnmet},
		"class by its case":       {Demand{ACR: []string{"gold"}}, says("acr", "Gold"), AssuranceUnmet},
		"factors by amr":          {Demand{MFA: true}, says("amr", []string{"pwd", "mfa"}), ""},
		"factors by acr":          {Demand{MFA: true}, says("acr", "gold"), ""},
		"one factor":              {Demand{MFA: true}, says("amr", []string{"pwd"}), AssuranceUnmet},
		"factors not said":        {Demand{MFA: true}, nil, AssuranceUnmet},
		"amr is a text":           {Demand{MFA: true}, says("amr", "mfa"), AssuranceUnmet},
		"class without factors":   {Demand{MFA: true, ACR: []string{"silver"}}, says("acr", "silver"), AssuranceUnmet},
		"young enough":            {Demand{MaxAge: 600}, ago(5 * time.Minute), ""},
		"young enough, with skew": {Demand{MaxAge: 600}, ago(10*time.Minute + 30*time.Second), ""},
		"too old":                 {Demand{MaxAge: 600}, ago(12 * time.Minute), AuthTooOld},
		"age not said":            {Demand{MaxAge: 600}, func(c jwt.MapClaims) { delete(c, "auth_time") }, AuthTooOld},
		"age is a text":           {Demand{MaxAge: 600}, says("auth_time", "99999999999"), AuthTooOld},
		"fresh":                   {Demand{Fresh: true}, nil, ""},
		"fresh was not done":      {Demand{Fresh: true}, ago(5 * time.Minute), AuthTooOld},
		"fresh not said":          {Demand{Fresh: true}, func(c jwt.MapClaims) { delete(c, "auth_time") }, AuthTooOld},
	} {
		t.Run(name, func(t *testing.T) {
			idp.Do(fakeidp.Script{Claims: tc.claims})
			f := p.NewFlow()
			f.Demand = tc.d
			_, err := p.Finish(t.Context(), f, visit(t, p, f))
			if tc.want == "" {
				if err != nil {
					t.Errorf("failed: %v", err)
				}
				return
			}
			wantCode(t, err, tc.want)
			mustSignIn(t, p)
		})
	}
}

// Userinfo vouches for no authentication: it is an answer of any day.
func TestUserinfoRaisesNoAssurance(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.Userinfo = true })
	idp.Do(fakeidp.Script{Userinfo: func(c map[string]any) { c["acr"], c["amr"] = "gold", []string{"mfa"} }})
	f := p.NewFlow()
	f.Demand = Demand{ACR: []string{"gold"}, MFA: true}
	_, err := p.Finish(t.Context(), f, visit(t, p, f))
	wantCode(t, err, AssuranceUnmet)
}

func TestProviderThatIsAskedRaisesTheSignIn(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	idp.Offer(map[string][]string{"gold": {"pwd", "mfa"}})
	p := discoveredProvider(t, idp, func(c *Config) { c.MFA.Request = []string{"gold"} })
	if got := mustSignIn(t, p).Identity; got.MFA || got.ACR != "" {
		t.Errorf("nobody asked: %+v", got)
	}
	f := p.NewFlow()
	f.Demand = Demand{MFA: true, Fresh: true}
	got, err := p.Finish(t.Context(), f, visit(t, p, f))
	if err != nil || !got.Identity.MFA || got.Identity.ACR != "gold" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSilentSignInFailsByNameWhenThePersonIsNeeded(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	f := p.NewFlow()
	f.Demand = Demand{Silent: true}
	_, err := p.Finish(t.Context(), f, visit(t, p, f)) // this browser is not known there
	wantCode(t, err, LoginRequired)
	for _, said := range []string{"login_required", "interaction_required", "consent_required", "account_selection_required", "server_error"} {
		for _, silent := range []bool{true, false} {
			f.Demand = Demand{Silent: silent}
			_, err := p.Finish(t.Context(), f, Callback{State: f.State, Issuer: idp.Issuer, Error: said})
			want := ProviderError
			if silent && said != "server_error" {
				want = LoginRequired
			}
			wantCode(t, err, want)
			if failure, _ := errors.AsType[*Failure](err); failure.Reported != said {
				t.Errorf("%s is reported as %q", said, failure.Reported)
			}
		}
	}
}

func TestOfflineAccessIsAskedForWhereItIsListed(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	const with, without = "openid profile email offline_access", "openid profile email"
	p := discoveredProvider(t, idp, nil)
	if got := asks(t, p, Demand{}).Get("scope"); got != with {
		t.Errorf("scope %q, want %q", got, with)
	}
	never := discoveredProvider(t, idp, func(c *Config) { c.OfflineAccess = OfflineNever })
	if got := asks(t, never, Demand{}).Get("scope"); got != without {
		t.Errorf("never: scope %q, want %q", got, without)
	}
	f := p.NewFlow() // a client that may not have it
	_, err := p.Finish(t.Context(), f, Callback{State: f.State, Issuer: idp.Issuer, Error: "invalid_scope"})
	wantCode(t, err, ProviderError)
	if got := asks(t, p, Demand{}).Get("scope"); got != without {
		t.Errorf("after it was refused: scope %q, want %q", got, without)
	}
	idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { delete(d, "scopes_supported") }})
	if got := asks(t, discoveredProvider(t, idp, nil), Demand{}).Get("scope"); got != without {
		t.Errorf("not listed: scope %q, want %q", got, without)
	}
}
