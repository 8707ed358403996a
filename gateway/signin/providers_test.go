package signin_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/test/fakeidp"
)

// twoProviders is a bed whose people are at corp, and paula at partner.
func twoProviders(t *testing.T) *bed {
	t.Helper()
	partner := fakeidp.Start(t, fakeidp.Client{ID: "sallyport", Secret: "x", RedirectURI: signin.CallbackURL(authOrigin, "partner")})
	partner.SetPerson(map[string]any{"sub": "paula"})
	b := newBed(t)
	b.serve(b.keeper, b.provider("corp", b.idp, "corp.example"), b.provider("partner", partner, "partner.example", "partner.test"))
	return b
}

// submit sends the form of a choose page with an address typed into it.
func (br *browser) submit(a answer, email string) answer {
	br.t.Helper()
	method, rest, _ := strings.Cut(a.form, " ")
	to, hidden, _ := strings.Cut(rest, " ")
	if method != http.MethodPost {
		br.t.Fatalf("form %q", a.form)
	}
	return br.post(to, strings.TrimPrefix(hidden+"&"+url.Values{"email": {email}}.Encode(), "&"))
}

func TestProviderByAddressNeedsNoScript(t *testing.T) {
	for email, want := range map[string]string{
		"paula@partner.example": "paula", "PAULA@Partner.Test": "paula", "alice@corp.example": "alice-1", " alice@corp.example ": "alice-1",
	} {
		b := twoProviders(t)
		br := b.browser()
		a := br.open(wikiOrigin + "/page?q=1")
		a.want(t, http.StatusOK, "choose_provider")
		br.submit(a, email).wantUser(t, want, wikiOrigin+"/page?q=1")
		portal := b.browser()
		portal.submit(portal.open(authOrigin+signin.SessionsPath), email).wantUser(t, want, authOrigin+signin.SessionsPath)
	}
}

// The address is a hint: who comes back is who the provider says, and no address leads anywhere but to our providers.
func TestAddressIsOnlyAHint(t *testing.T) {
	b := twoProviders(t)
	br := b.browser()
	br.submit(br.open(wikiOrigin+"/"), "admin@partner.example").wantUser(t, "paula", wikiOrigin+"/")
	for _, email := range []string{"", "x", "@partner.example", "a@b@partner.example", "alice@nowhere.example", "alice@partner.example.evil.example",
		"alice@evilpartner.example", "a b@partner.example", "<script>@partner.example", strings.Repeat("a", 300) + "@partner.example", "a@partner.example\r\nx: y"} {
		other := b.browser()
		a := other.submit(other.open(wikiOrigin+"/"), email)
		a.want(t, http.StatusOK, "choose_provider")
		if len(a.choices) != 2 {
			t.Errorf("%q: choices %q", email, a.choices)
		}
	}
	// The provider is told the address, and only the one that it belongs to.
	other := b.browser()
	page := other.open(wikiOrigin + "/")
	method, rest, _ := strings.Cut(page.form, " ")
	to, hidden, _ := strings.Cut(rest, " ")
	r := request(t, method, to, strings.NewReader(hidden+"&email=paula%40partner.example"))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	once := *other.client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := other.do(r, &once)
	if got := mustURL(t, a.location).Query().Get("login_hint"); got != "paula@partner.example" {
		t.Errorf("login_hint %q at %s", got, a.location)
	}
	// An address in a link is nobody's own.
	if a := b.browser().step(authOrigin + signin.StartPath + "?email=paula%40partner.example"); a.code != "choose_provider" {
		t.Errorf("a link chose by address: %d %q %s", a.status, a.code, a.location)
	}
	if a := other.post(authOrigin+signin.StartPath, "email=paula%40partner.example", "Sec-Fetch-Site", "cross-site"); a.code != "cross_origin" {
		t.Errorf("another site's form: %d %q", a.status, a.code)
	}
	other.post(authOrigin+signin.StartPath, "rd="+strings.Repeat("x", 20<<10)).want(t, http.StatusBadRequest, "request_invalid")
}

func TestProviderByApp(t *testing.T) {
	b := twoProviders(t)
	pay := b.apps["payroll.corp.example"]
	pay.Providers = []string{"partner"}
	b.apps["payroll.corp.example"] = pay
	b.browser().open(payOrigin+"/slips").wantUser(t, "paula", payOrigin+"/slips")

	br := b.browser()
	br.open(br.open(wikiOrigin + "/").choices[0]).wantUser(t, "alice-1", wikiOrigin+"/")
	a := br.open(payOrigin + "/slips")
	a.want(t, http.StatusForbidden, "provider")
	if len(a.choices) != 1 || !strings.Contains(a.body, "CORP") {
		t.Fatalf("choices %q on %s", a.choices, a.body)
	}
	old := br.cookies(authOrigin)[signin.SessionCookie]
	br.open(a.choices[0]).wantUser(t, "paula", payOrigin+"/slips")
	if _, err := b.keeper.SignedIn(t.Context(), old); err == nil || b.records.count("sign_out:replaced") != 1 {
		t.Errorf("the other account's session lives on, records %q", b.records.codes())
	}
	// A provider that is named in the address, but is none of the app's, is not gone to.
	start := mustURL(t, b.browser().until(payOrigin+"/", signin.StartPath))
	q := start.Query()
	q.Set("provider", "corp")
	start.RawQuery = q.Encode()
	if a := b.browser().step(start.String()); strings.HasPrefix(a.location, b.idp.Issuer) {
		t.Errorf("went to %s", a.location)
	}
}

// What is needed narrows the providers of the host, down to none.
func TestNeedNarrowsTheProviders(t *testing.T) {
	b := twoProviders(t)
	br := b.browser()
	br.open(br.open(wikiOrigin + "/").choices[0]).wantUser(t, "alice-1", wikiOrigin+"/")
	b.needs = func(_ string, s *session.Session) signin.Need {
		if s.Identity.Provider == "partner" {
			return signin.Need{}
		}
		return signin.Need{Providers: []string{"partner"}}
	}
	a := br.open(wikiOrigin + "/page")
	a.want(t, http.StatusForbidden, "provider")
	br.open(a.choices[0]).wantUser(t, "paula", wikiOrigin+"/page")
	b.needs = func(string, *session.Session) signin.Need { return signin.Need{Providers: []string{"nobody"}} }
	br.open(wikiOrigin+"/page").want(t, http.StatusForbidden, "no_provider")
}

func TestLastProviderIsOfferedFirst(t *testing.T) {
	b := twoProviders(t)
	br := b.browser()
	br.open(br.open(wikiOrigin + "/").choices[1]).wantUser(t, "paula", wikiOrigin+"/")
	br.post(authOrigin+signin.SignOutPath, "")
	a := br.open(wikiOrigin + "/")
	if len(a.choices) != 2 || !strings.Contains(a.choices[0], "provider=partner") {
		t.Errorf("choices %q", a.choices)
	}
	br.plant(authOrigin, "__Host-sallyport-last", "<script>")
	a = br.open(wikiOrigin + "/")
	if len(a.choices) != 2 || strings.Contains(br.pages.String(), "<script>") {
		t.Errorf("choices %q", a.choices)
	}
}

func TestFormOriginsAreOursAndTheProviders(t *testing.T) {
	b := twoProviders(t)
	origins := b.handler.FormOrigins()
	if len(origins) != 3 || !slices.Contains(origins, authOrigin) || !slices.Contains(origins, b.idp.Issuer) {
		t.Errorf("form-action %q", origins)
	}
	for _, origin := range origins {
		if u := mustURL(t, origin); u.Path != "" || u.RawQuery != "" {
			t.Errorf("%q is no origin", origin)
		}
	}
}
