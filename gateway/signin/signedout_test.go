package signin_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/gateway/signin"
	"sallyport/test/fakeidp"
)

// endsSessions is a bed whose provider offers RP-initiated logout.
func endsSessions(t *testing.T) *bed {
	t.Helper()
	b := newBed(t)
	b.idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["end_session_endpoint"] = b.idp.Issuer + "/logout?tenant=1" }})
	b.serve(b.keeper, b.provider("corp", b.idp))
	return b
}

func TestSignOutAtTheProviderEndsTheSessionFirst(t *testing.T) {
	for name, from := range map[string]string{
		"portal":   authOrigin + signin.SignOutPath,
		"app host": wikiOrigin + signin.SignOutPath + "?scope=everywhere",
	} {
		t.Run(name, func(t *testing.T) {
			b := endsSessions(t)
			br := b.browser()
			id := br.open(wikiOrigin + "/").session
			secrets, _, err := b.keeper.Secrets(t.Context(), id)
			if err != nil || secrets.IDToken == "" {
				t.Fatalf("no ID token is kept: %v", err)
			}
			br.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			a := br.post(from, "provider=1")
			to := mustURL(t, a.location)
			q := to.Query()
			if to.Scheme+"://"+to.Host != b.idp.Issuer || to.Path != "/logout" || q.Get("tenant") != "1" {
				t.Fatalf("sent to %s", a.location)
			}
			if q.Get("id_token_hint") != secrets.IDToken || q.Get("post_logout_redirect_uri") != signin.SignedOutURL(authOrigin) ||
				q.Get("client_id") != "sallyport" || q.Get("state") == "" {
				t.Errorf("parameters %v", q)
			}
			if len(b.sessions()) != 0 || b.records.count("sign_out") != 1 {
				t.Errorf("sessions %v, records %q", b.sessions(), b.records.codes())
			}
			if looksLikeToken.MatchString(b.records.text()) {
				t.Error("a token is on record")
			}
			back := br.open(signin.SignedOutURL(authOrigin) + "?" + url.Values{"state": {q.Get("state")}}.Encode())
			back.want(t, http.StatusOK, "signed_out_at_provider")
			if !strings.Contains(back.body, "CORP") || back.act != " "+authOrigin+"/" {
				t.Errorf("page %s, action %q", back.body, back.act)
			}
		})
	}
}

func TestSignOutAtAProviderThatOffersNoneSaysSo(t *testing.T) {
	b := newBed(t)
	b.idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { delete(d, "end_session_endpoint") }})
	b.serve(b.keeper, b.provider("corp", b.idp))
	br := b.browser()
	br.open(wikiOrigin + "/")
	a := br.post(authOrigin+signin.SignOutPath, "provider=1")
	a.want(t, http.StatusOK, "provider_signed_in")
	if len(b.sessions()) != 0 || !strings.Contains(a.body, "CORP") {
		t.Errorf("sessions %v, page %s", b.sessions(), a.body)
	}
	if b.handler.EndsAt("corp") || !endsSessions(t).handler.EndsAt("corp") || b.handler.ProviderTitle("corp") != "CORP" || b.handler.ProviderTitle("x") != "x" {
		t.Error("EndsAt or ProviderTitle is wrong")
	}
}

// The page after a sign-out changes nothing and claims nothing that it does not know.
func TestSignedOutPageSaysOnlyWhatIsSo(t *testing.T) {
	b := endsSessions(t)
	state := func() string {
		br := b.browser()
		br.open(wikiOrigin + "/")
		br.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return mustURL(t, br.post(authOrigin+signin.SignOutPath, "provider=1").location).Query().Get("state")
	}
	page := func(br *browser, query string) answer { return br.open(authOrigin + signin.SignedOutPath + query) }
	for _, query := range []string{"", "?state=made-up", "?state=" + strings.Repeat("A", 3000), "?post_logout_redirect_uri=https://evil.example&rd=//evil.example"} {
		a := page(b.browser(), query)
		a.want(t, http.StatusOK, "signed_out")
		if strings.Contains(a.body+a.act, "evil") {
			t.Errorf("%s is repeated", query)
		}
	}
	page(b.browser(), "?state=a&state=b").want(t, http.StatusBadRequest, "request_invalid")
	good := state()
	page(b.browser(), "?state="+good).want(t, http.StatusOK, "signed_out_at_provider")
	signedIn := b.browser()
	signedIn.open(wikiOrigin + "/")
	a := page(signedIn, "?state="+good)
	a.want(t, http.StatusOK, "still_signed_in")
	if a.act != "POST "+signin.SignOutPath || len(b.sessions()) != 1 {
		t.Errorf("action %q, sessions %v", a.act, b.sessions())
	}
	b.later(11 * time.Minute)
	page(b.browser(), "?state="+good).want(t, http.StatusOK, "signed_out")
	// Sealed for something else is no state.
	page(b.browser(), "?state="+b.keeper.Seal("other", []byte("1.corp"))).want(t, http.StatusOK, "signed_out")
}

// OIDC-29's kin: another site can neither sign people out nor send them to a provider to be.
func TestSignOutAtTheProviderIsAskedForByOurOwnPagesOnly(t *testing.T) {
	b := endsSessions(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	br.post(authOrigin+signin.SignOutPath, "provider=1", "Sec-Fetch-Site", "cross-site").want(t, http.StatusForbidden, "cross_origin")
	br.open(authOrigin+signin.SignOutPath+"?provider=1").want(t, http.StatusMethodNotAllowed, "confirm_sign_out")
	if len(b.sessions()) != 1 {
		t.Error("the session is over")
	}
}
