package oidc

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/test/fakeidp"
)

// What a failed refresh means for the session, and whether its token may be sent again.
func TestFailedRefreshTellsWhatBecameOfTheToken(t *testing.T) {
	status := func(code int, body string) fakeidp.Script {
		return fakeidp.Script{Token: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			io.WriteString(w, body)
			return true
		}}
	}
	for name, tc := range map[string]struct {
		script   fakeidp.Script
		want     Code
		reported string
		unsent   bool
	}{
		"account or token refused": {status(400, `{"error":"invalid_grant"}`), RefreshRejected, "invalid_grant", false},
		"client refused":           {status(401, `{"error":"invalid_client"}`), ClientRejected, "invalid_client", true},
		"client not authorised":    {status(400, `{"error":"unauthorized_client"}`), ClientRejected, "unauthorized_client", true},
		"person needed":            {status(400, `{"error":"interaction_required"}`), LoginRequired, "interaction_required", true},
		"sign-in needed":           {status(400, `{"error":"login_required"}`), LoginRequired, "login_required", true},
		"unknown error":            {status(400, `{"error":"access-is-odd"}`), ProviderInvalidAnswer, "", false},
		"HTML":                     {status(200, `<html>`), ProviderInvalidAnswer, "", false},
		"no access token":          {status(200, `{}`), ProviderInvalidAnswer, "", false},
		"overloaded":               {status(503, ``), ProviderUnreachable, "", true},
		"too many requests":        {status(429, ``), ProviderUnreachable, "", true},
		"broken":                   {status(500, ``), ProviderUnreachable, "", false},
		"bad gateway":              {status(502, ``), ProviderUnreachable, "", false},
		"cut":                      {fakeidp.Script{Token: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }}, ProviderUnreachable, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			idp := fakeidp.Start(t, testClient)
			p := discoveredProvider(t, idp, nil)
			in := mustSignIn(t, p)
			idp.Do(tc.script)
			result, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
			wantCode(t, err, tc.want)
			failure, _ := errors.AsType[*Failure](err)
			if result != nil || failure.Unsent != tc.unsent || failure.Reported != tc.reported {
				t.Errorf("got %v, unsent %v, reported %q; want no result, %v, %q", result, failure.Unsent, failure.Reported, tc.unsent, tc.reported)
			}
		})
	}
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	in := mustSignIn(t, p)
	idp.Server.Close()
	p.client.CloseIdleConnections() // on one of these the call might have got through
	_, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
	wantCode(t, err, ProviderUnreachable)
	if failure, _ := errors.AsType[*Failure](err); !failure.Unsent {
		t.Errorf("a call that found nobody used the token up: %v", err)
	}
}

func TestDisabledAccountIsRefusedAtRefreshAndSignIn(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	in := mustSignIn(t, p)
	idp.Disable("alice-1")
	_, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
	wantCode(t, err, RefreshRejected)
	_, err = signIn(t, p)
	wantCode(t, err, AccessDenied)
}

// OpenID Connect Core §12.2: a refresh is no authentication, whatever the provider writes into its tokens.
func TestRefreshMakesNoAuthenticationYounger(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	for name, tc := range map[string]struct{ first, later, want time.Duration }{ // ago; 0: not said
		"younger":        {time.Hour, time.Minute, time.Hour},
		"older":          {time.Hour, 2 * time.Hour, time.Hour}, // as a token from before a step-up has it
		"not said now":   {time.Hour, 0, time.Hour},
		"not said then":  {0, time.Minute, 0},
		"never was said": {0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now().Truncate(time.Second)
			says := func(ago time.Duration) fakeidp.Script {
				return fakeidp.Script{Claims: func(c jwt.MapClaims) {
					if c["auth_time"] = now.Add(-ago).Unix(); ago == 0 {
						delete(c, "auth_time")
					}
				}}
			}
			idp.Do(says(tc.first))
			in := mustSignIn(t, p)
			idp.Do(says(tc.later))
			again, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			want := time.Time{}
			if tc.want != 0 {
				want = now.Add(-tc.want)
			}
			if got := again.Identity.AuthTime; !got.Equal(want) {
				t.Errorf("auth_time %s, want %s", got, want)
			}
		})
	}
}

// What another browser of the person came to at the provider meanwhile makes this session no stronger: it has its old cookie.
// Nor does a token from before a step-up take the step-up back.
func TestRefreshMakesNoAuthenticationStrongerOrWeaker(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.MFA = MFA{ACR: []string{"gold"}, AMR: []string{"mfa"}} })
	weak := func(c jwt.MapClaims) { c["acr"], c["amr"] = "silver", []string{"pwd"} }
	strong := func(c jwt.MapClaims) { c["acr"], c["amr"] = "gold", []string{"pwd", "mfa"} }
	silent := func(c jwt.MapClaims) { delete(c, "acr"); delete(c, "amr") }
	for name, tc := range map[string]struct{ first, later func(jwt.MapClaims) }{
		"stronger":      {weak, strong},
		"weaker":        {strong, weak},
		"not said now":  {strong, silent},
		"not said then": {silent, strong},
	} {
		t.Run(name, func(t *testing.T) {
			idp.Do(fakeidp.Script{Claims: tc.first})
			in := mustSignIn(t, p)
			idp.Do(fakeidp.Script{Claims: tc.later})
			again, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			was, is := in.Identity, again.Identity
			if is.ACR != was.ACR || !slices.Equal(is.AMR, was.AMR) || is.MFA != was.MFA {
				t.Errorf("was acr %q amr %q mfa %v, is %q %q %v", was.ACR, was.AMR, was.MFA, is.ACR, is.AMR, is.MFA)
			}
		})
	}
}

// OIDC-23: what the provider takes away is gone after the next refresh.
func TestOIDC23GroupsAndAddressTakenAwayAreGone(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	in := mustSignIn(t, p)
	idp.SetPerson(map[string]any{"groups": nil, "email": nil, "email_verified": nil})
	again, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Identity; len(got.Groups) != 0 || got.Email != "" || got.EmailVerified || again.Unsaid {
		t.Errorf("got %+v", got)
	}
	idp.Do(fakeidp.Script{TokenBody: func(b map[string]any) { delete(b, "id_token") }})
	again, err = p.Refresh(t.Context(), in.Identity, again.RefreshToken)
	if err != nil || !again.Unsaid || again.Identity != in.Identity || again.RefreshToken == "" {
		t.Errorf("nothing was said: got %+v, %v", again, err)
	}
}

// Userinfo that is swapped, signed by somebody else or ambiguous signs nobody in.
func TestHostileUserinfoIsRefusedByName(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, func(c *Config) { c.Userinfo = true })
	mustSignIn(t, p)
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{"iss": e.idp.Issuer, "aud": "sallyport", "sub": "alice-1", "department": "it"}
		if change != nil {
			change(c)
		}
		return c
	}
	const asJSON, asJWT = "application/json", "application/jwt"
	for name, tc := range map[string]struct {
		kind, body string
		want       Code
	}{
		"swapped sub":             {asJSON, `{"sub":"root"}`, SubjectMismatch},
		"no sub":                  {asJSON, `{}`, SubjectMismatch},
		"sub in another case":     {asJSON, `{"Sub":"alice-1"}`, ProviderInvalidAnswer},
		"two subs":                {asJSON, `{"sub":"alice-1","sub":"alice-1"}`, ProviderInvalidAnswer},
		"a list":                  {asJSON, `[{"sub":"alice-1"}]`, ProviderInvalidAnswer},
		"HTML":                    {"text/html", `<html>`, ProviderInvalidAnswer},
		"signed by another":       {asJWT, e.other.Keys()[0].Sign(claims(nil)), TokenKey},
		"signed by another's key": {asJWT, e.headerBy(e.evil, map[string]any{})(claims(nil)), TokenSignature},
		"not signed":              {asJWT, fakeidp.Sign(jwt.SigningMethodNone, "", claims(nil), jwt.UnsafeAllowNoneSignatureType), TokenAlgorithm},
		"signed for another":      {asJWT, e.key.Sign(claims(func(c jwt.MapClaims) { c["aud"] = "other" })), ProviderInvalidAnswer},
		"signed, other issuer":    {asJWT, e.key.Sign(claims(func(c jwt.MapClaims) { c["iss"] = e.other.Issuer })), ProviderInvalidAnswer},
		"signed, swapped sub":     {asJWT, e.key.Sign(claims(func(c jwt.MapClaims) { c["sub"] = "root" })), SubjectMismatch},
		"the control, signed":     {asJWT, e.key.Sign(claims(nil)), ""},
		"the control":             {asJSON, `{"sub":"alice-1"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tc.kind)
				io.WriteString(w, tc.body)
			})
			p.found.Load().userinfo = serve(t, server)
			_, err := signIn(t, p)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, tc.want)
		})
	}
}
