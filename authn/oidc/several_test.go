package oidc

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/test/fakeidp"
)

// two are providers that know the same gateway, each with its own callback.
func two(t *testing.T, change func(corp, partner *Config)) (corp, partner *Provider, corpIDP, partnerIDP *fakeidp.Provider) {
	t.Helper()
	return twoLinked(t, change, nil)
}

func twoLinked(t *testing.T, change func(corp, partner *Config), links []Link) (corp, partner *Provider, corpIDP, partnerIDP *fakeidp.Provider) {
	t.Helper()
	idps := make([]*fakeidp.Provider, 2)
	cfgs := make([]Config, 2)
	for i, name := range []string{"corp", "partner"} {
		client := testClient
		client.RedirectURI = strings.TrimSuffix(redirectURL, "corp") + name
		idps[i] = fakeidp.Start(t, client)
		cfgs[i] = configFor(idps[i])
		cfgs[i].Name = name
	}
	if change != nil {
		change(&cfgs[0], &cfgs[1])
	}
	if err := CheckLinks(links, cfgs); err != nil {
		t.Fatal(err)
	}
	standing := Stand(cfgs, links)
	made := make([]*Provider, 2)
	for i, cfg := range cfgs {
		p, err := New(cfg, Options{RedirectURL: idps[i].Client.RedirectURI, Among: standing[cfg.Name]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.client.CloseIdleConnections)
		if err := p.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		made[i] = p
	}
	return made[0], made[1], idps[0], idps[1]
}

// RFC 9207, RFC 9700 §4.4: a code of one provider never reaches the other's token endpoint, whichever way it is mixed up.
func TestMixedUpProvidersAreToldApart(t *testing.T) {
	corp, partner, corpIDP, partnerIDP := two(t, nil)
	f := corp.NewFlow()
	good := visit(t, corp, f)

	for name, tc := range map[string]struct {
		at     *Provider
		flow   *Flow
		change func(*Callback)
		want   Code
	}{
		"at the other's callback":               {partner, f, func(*Callback) {}, StateMismatch},
		"at the other's callback, its own flow": {partner, partner.NewFlow(), func(*Callback) {}, StateMismatch},
		"iss of the other":                      {corp, f, func(cb *Callback) { cb.Issuer = partnerIDP.Issuer }, IssuerMismatch},
		"iss by a slash":                        {corp, f, func(cb *Callback) { cb.Issuer += "/" }, IssuerMismatch},
		"no iss":                                {corp, f, func(cb *Callback) { cb.Issuer = "" }, IssuerMissing},
		"error with iss of the other":           {corp, f, func(cb *Callback) { cb.Issuer, cb.Error, cb.Code = partnerIDP.Issuer, "access_denied", "" }, IssuerMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			cb := good
			tc.change(&cb)
			_, err := tc.at.Finish(t.Context(), tc.flow, cb)
			wantCode(t, err, tc.want)
		})
	}
	if corpIDP.Calls("token")+partnerIDP.Calls("token") != 0 {
		t.Error("a mixed-up code was sent to a token endpoint")
	}

	theirs := partner.NewFlow() // a code of corp by partner's flow, all else as it should be
	cb := visit(t, partner, theirs)
	cb.Code = good.Code
	_, err := partner.Finish(t.Context(), theirs, cb)
	wantCode(t, err, CodeRejected)
	if _, err := corp.Finish(t.Context(), f, good); err != nil {
		t.Errorf("the control: %v", err)
	}

	// An ID token of one is nothing at the other, even by a key that both publish.
	partnerIDP.UseKeys(corpIDP.Keys()...)
	stolen := mustSignIn(t, corp).IDToken
	partnerIDP.Do(fakeidp.Script{TokenBody: func(b map[string]any) { b["id_token"] = stolen }})
	_, err = signIn(t, partner)
	wantCode(t, err, TokenIssuer)
}

// OIDC-16: the same sub, address and name at two providers are two people, and a refresh token is of use at its own only.
func TestOIDC16AccountsOfTwoProvidersAreTwoPeople(t *testing.T) {
	corp, partner, _, _ := two(t, nil)
	a, b := mustSignIn(t, corp), mustSignIn(t, partner)
	if a.Identity.ID() == b.Identity.ID() || a.Identity.Email != b.Identity.Email {
		t.Errorf("got %s and %s", a.Identity.ID(), b.Identity.ID())
	}
	_, err := partner.Refresh(t.Context(), a.Identity, a.RefreshToken)
	wantCode(t, err, RefreshRejected)
	refused, err := partner.Refresh(t.Context(), a.Identity, b.RefreshToken)
	wantCode(t, err, SubjectMismatch)
	if refused.RefreshToken == "" {
		t.Error("the new refresh token is lost")
	}
}

// Which addresses a provider may vouch for. The mutant is a provider that stands alone.
func TestProvidersVouchForTheirOwnDomainsOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		corp, partner               []string
		email                       string
		corpVouches, partnerVouches bool
	}{
		"nobody says":        {nil, nil, "ceo@corp.example", true, true},
		"one lists it":       {[]string{"corp.example"}, nil, "ceo@corp.example", true, false},
		"another domain":     {[]string{"corp.example"}, nil, "x@free.example", false, true},
		"each its own":       {[]string{"corp.example"}, []string{"partner.example"}, "ceo@corp.example", true, false},
		"both list it":       {[]string{"corp.example"}, []string{"corp.example"}, "ceo@corp.example", true, true},
		"subdomain":          {[]string{"corp.example"}, nil, "x@sub.corp.example", false, true},
		"international":      {[]string{"bücher.example"}, nil, "x@xn--bcher-kva.example", true, false},
		"case":               {[]string{"Corp.Example"}, nil, "x@CORP.example", true, false},
		"OIDC-18 two at":     {[]string{"corp.example"}, nil, "m@evil.example@corp.example", false, false},
		"OIDC-18 dot at end": {[]string{"corp.example"}, nil, "m@corp.example.", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			corp, partner, corpIDP, partnerIDP := two(t, func(c, p *Config) { c.EmailDomains, p.EmailDomains = tc.corp, tc.partner })
			corpIDP.SetPerson(map[string]any{"email": tc.email})
			partnerIDP.SetPerson(map[string]any{"email": tc.email})
			if got := mustSignIn(t, corp).Identity.EmailVerified; got != tc.corpVouches {
				t.Errorf("corp vouches: %v, want %v", got, tc.corpVouches)
			}
			if got := mustSignIn(t, partner).Identity.EmailVerified; got != tc.partnerVouches {
				t.Errorf("partner vouches: %v, want %v", got, tc.partnerVouches)
			}
			if got, want := corp.Serves(tc.email), tc.corpVouches && tc.corp != nil; got != want {
				t.Errorf("corp serves the address: %v, want %v", got, want)
			}
		})
	}
	_, partner, _, _ := two(t, func(c, _ *Config) { c.EmailDomains = []string{"corp.example"} })
	partner.among = Standing{}
	if !mustSignIn(t, partner).Identity.EmailVerified {
		t.Error("the mutant does not show what Reserved is for")
	}
}

func TestLinkedAccountIsThePersonWithItsOwnGroups(t *testing.T) {
	links := []Link{{Person: "corp|alice-1", Also: []string{"partner|a.smith"}}}
	corp, partner, corpIDP, partnerIDP := twoLinked(t, nil, links)
	partnerIDP.SetPerson(map[string]any{"sub": "a.smith", "groups": []string{"guests"}})
	a, b := mustSignIn(t, corp).Identity, mustSignIn(t, partner)
	if a.ID() != "corp|alice-1" || b.Identity.ID() != a.ID() {
		t.Errorf("got %s and %s, want one person", a.ID(), b.Identity.ID())
	}
	if got := b.Identity; got.Provider != "partner" || got.Subject != "a.smith" || cmp.Diff([]string{"guests"}, got.Groups) != "" {
		t.Errorf("got %+v: want what partner says of a.smith", got)
	}
	again, err := partner.Refresh(t.Context(), b.Identity, b.RefreshToken)
	if err != nil || again.Identity.ID() != "corp|alice-1" {
		t.Errorf("refreshed: %v, %v", again, err)
	}
	said, err := partner.ReadLogout(t.Context(), partnerIDP.LogoutToken("a.smith", ""))
	if err != nil || said.Person != "corp|alice-1" {
		t.Errorf("logout of %+v, %v", said, err)
	}

	// Neither the address, nor the same sub at the other provider, nor the person's own name there is a link.
	for _, sub := range []string{"alice-1", "corp|alice-1", "A.Smith", "a.smith "} {
		partnerIDP.SetPerson(map[string]any{"sub": sub})
		if got := mustSignIn(t, partner).Identity.ID(); got != "partner|"+sub {
			t.Errorf("partner's %q is %s", sub, got)
		}
	}
	corpIDP.SetPerson(map[string]any{"sub": "a.smith"})
	if got := mustSignIn(t, corp).Identity.ID(); got != "corp|a.smith" {
		t.Errorf("corp's a.smith is %s", got)
	}
}

func TestMistakesInLinksAreNamed(t *testing.T) {
	providers := []Config{{Name: "corp"}, {Name: "partner"}}
	for want, links := range map[string][]Link{
		"identity.links[0].person: want provider|sub":  {{Person: "alice", Also: []string{"partner|a"}}},
		"identity.links[0].person: no provider":        {{Person: "other|a", Also: []string{"partner|a"}}},
		"identity.links[0].also: further accounts":     {{Person: "corp|a"}},
		"identity.links[0].also: no provider":          {{Person: "corp|a", Also: []string{"partner2|a"}}},
		"identity.links[0].also: want provider|sub":    {{Person: "corp|a", Also: []string{"partner|"}}},
		"identity.links[0].also: one account":          {{Person: "corp|a", Also: []string{"corp|a"}}},
		"identity.links[1].also: one account is one":   {{Person: "corp|a", Also: []string{"partner|a"}}, {Person: "corp|b", Also: []string{"partner|a"}}},
		"identity.links[1].also: one account is":       {{Person: "corp|a", Also: []string{"partner|a"}}, {Person: "corp|b", Also: []string{"corp|a"}}},
		"identity.links[0].also: a person itself":      {{Person: "corp|a", Also: []string{"corp|b"}}, {Person: "corp|b", Also: []string{"partner|a"}}},
		"identity.links[1].person: has a link already": {{Person: "corp|a", Also: []string{"partner|a"}}, {Person: "corp|a", Also: []string{"partner|b"}}},
	} {
		err := CheckLinks(links, providers)
		field, text, _ := strings.Cut(want, ": ")
		located, ok := err.(interface{ Field() string })
		if !ok || located.Field() != field || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: got %v, want %s", links, err, want)
		}
	}
}

// OIDC-20: groups that are too many for a token are asked for at the configured place, or known to be incomplete.
func TestOIDC20TooManyGroups(t *testing.T) {
	var many []string
	for i := range 450 {
		many = append(many, fmt.Sprintf("group-%03d", i))
	}
	answer := func(text string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, text)
			return true
		}
	}
	evil := fakeidp.Start(t, testClient)
	for name, tc := range map[string]struct {
		endpoint string // below the issuer; empty: not configured
		serve    func(w http.ResponseWriter, r *http.Request) bool
		want     []string
		full     bool
	}{
		"not configured":       {"", nil, nil, false},
		"Graph, by pages":      {"/v1.0/me/getMemberObjects", nil, many, true},
		"list, by pages":       {"/groups", nil, many, true},
		"plain list":           {"/groups", answer(`["a","b"]`), []string{"a", "b"}, true},
		"named groups":         {"/groups", answer(`{"groups":["a"]}`), []string{"a"}, true},
		"objects":              {"/groups", answer(`{"value":[{"id":"1","displayName":"a"},{"id":"2"}]}`), []string{"1", "2"}, true},
		"none at all":          {"/groups", answer(`{"value":[]}`), nil, true},
		"HTML":                 {"/groups", answer(`<html>`), nil, false},
		"null":                 {"/groups", answer(`null`), nil, false},
		"no list":              {"/groups", answer(`{"value":"a"}`), nil, false},
		"a number among them":  {"/groups", answer(`["a",7]`), nil, false},
		"object without an id": {"/groups", answer(`{"value":[{"id":"1"},{}]}`), nil, false},
		"two lists of a name":  {"/groups", answer(`{"value":["a"],"value":["b"]}`), nil, false},
		"trailing":             {"/groups", answer(`["a"],"value":["b"]`), nil, false},
		"next on another host": {"/groups", answer(`{"value":["a"],"@odata.nextLink":"` + evil.Issuer + `/groups"}`), nil, false},
		"next in the clear":    {"/groups", answer(`{"value":["a"],"@odata.nextLink":"ftp://127.0.0.1/groups"}`), nil, false},
		"next is no text":      {"/groups", answer(`{"value":["a"],"@odata.nextLink":7}`), nil, false},
		"refused": {"/groups", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		}, nil, false},
		"overloaded": {"/groups", func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}, nil, false},
		"elsewhere": {"/groups", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, evil.Issuer+"/groups", http.StatusTemporaryRedirect)
			return true
		}, nil, false},
		"pages without end": {"/groups", func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprintf(w, `{"value":["a"],"@odata.nextLink":"http://%s/groups?from=1"}`, r.Host)
			return true
		}, nil, false},
		"too large": {"/groups", func(w http.ResponseWriter, _ *http.Request) bool {
			io.WriteString(w, `["`+strings.Repeat("x", 2<<20)+`"]`)
			return true
		}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			idp := fakeidp.Start(t, testClient)
			idp.Overage(many)
			idp.Do(fakeidp.Script{Groups: tc.serve})
			p := discoveredProvider(t, idp, func(c *Config) {
				if tc.endpoint != "" {
					c.GroupsEndpoint = idp.Issuer + tc.endpoint
				}
			})
			in := mustSignIn(t, p)
			again, err := p.Refresh(t.Context(), in.Identity, in.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			for _, got := range []*Result{in, again} {
				if cmp.Diff(tc.want, got.Identity.Groups) != "" || got.Identity.GroupsIncomplete == tc.full {
					t.Errorf("%d groups %.60q…, incomplete %v; want %d, %v", len(got.Identity.Groups), got.Identity.Groups,
						got.Identity.GroupsIncomplete, len(tc.want), !tc.full)
				}
			}
			if idp.Calls("trap")+evil.Calls("groups") != 0 {
				t.Error("an address out of a token or an answer was called")
			}
			if tc.endpoint != "" && idp.Calls("groups") > 2*maxPages {
				t.Errorf("%d calls for two questions", idp.Calls("groups"))
			}
		})
	}
	t.Run("as many as an identity holds", func(t *testing.T) {
		idp := fakeidp.Start(t, testClient)
		idp.Overage(append(slices.Clone(many), strings.Fields(strings.Repeat("x y ", 100))...))
		p := discoveredProvider(t, idp, func(c *Config) { c.GroupsEndpoint = idp.Issuer + "/groups" })
		if got := mustSignIn(t, p).Identity; !got.GroupsIncomplete {
			t.Errorf("%d groups and not incomplete", len(got.Groups))
		}
	})
	t.Run("not asked without need", func(t *testing.T) {
		idp := fakeidp.Start(t, testClient)
		p := discoveredProvider(t, idp, func(c *Config) { c.GroupsEndpoint = idp.Issuer + "/groups" })
		if got := mustSignIn(t, p).Identity; len(got.Groups) != 2 || got.GroupsIncomplete || idp.Calls("groups") != 0 {
			t.Errorf("got %v, %d calls", got.Groups, idp.Calls("groups"))
		}
	})
}

// The access token goes to the groups endpoint, and no client assertion does: that one proves us to the token endpoint alone.
func TestGroupsEndpointSeesTheAccessTokenOnly(t *testing.T) {
	signer := newSigner(t)
	client := testClient
	client.Secret, client.Key = "", &signer.key.PublicKey
	idp := fakeidp.Start(t, client)
	idp.Overage([]string{"a"})
	seen := make(chan string, 1)
	idp.Do(fakeidp.Script{Groups: func(_ http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		seen <- r.Header.Get("Authorization") + " " + string(body)
		return false
	}})
	cfg := configFor(idp)
	cfg.GroupsEndpoint = idp.Issuer + "/v1.0/me/getMemberObjects"
	p := newProvider(t, cfg, Options{Assertion: signer})
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustSignIn(t, p).Identity.Groups; len(got) != 1 {
		t.Errorf("groups %q", got)
	}
	if got := <-seen; !strings.HasPrefix(got, "Bearer access-") || strings.Contains(got, "client_assertion") {
		t.Errorf("the endpoint saw %q", got)
	}
}
