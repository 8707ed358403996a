package oidc

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/test/fakeidp"
)

func TestGroupsAreReadWhereTheyAre(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	for _, tc := range []struct {
		name       string
		claim      string
		person     map[string]any
		want       []string
		incomplete bool
	}{
		{"list", "groups", map[string]any{"groups": []string{"b", "a", "b"}}, []string{"a", "b"}, false},
		{"one text", "groups", map[string]any{"groups": "a,b"}, []string{"a,b"}, false},
		{"absent", "groups", map[string]any{"groups": nil}, nil, false},
		{"empty", "groups", map[string]any{"groups": []string{}}, nil, false},
		{"number", "groups", map[string]any{"groups": 7}, nil, true},
		{"not all texts", "groups", map[string]any{"groups": []any{"a", 7}}, []string{"a"}, true},
		{"nested", "realm_access.roles", map[string]any{"realm_access": map[string]any{"roles": []string{"admin"}}}, []string{"admin"}, false},
		{"name with dots", "https://corp.example/groups", map[string]any{"https://corp.example/groups": []string{"x"}}, []string{"x"}, false},
		{"nested in a text", "name.roles", nil, nil, false},
		{"switched off", "", map[string]any{"groups": []string{"a"}}, nil, false},
		{"OIDC-20 claim names", "groups", map[string]any{"groups": nil, "_claim_names": map[string]any{"groups": "src1"},
			"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": idp.Issuer + "/userinfo"}}}, nil, true},
		{"OIDC-20 hasgroups", "groups", map[string]any{"groups": nil, "_claim_names": nil, "_claim_sources": nil, "hasgroups": true}, nil, true},
		{"OIDC-20 hasgroups as text", "groups", map[string]any{"hasgroups": "true"}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			idp.SetPerson(tc.person)
			p := discoveredProvider(t, idp, func(c *Config) { c.Claims.Groups = tc.claim })
			got := mustSignIn(t, p).Identity
			if diff := cmp.Diff(tc.want, got.Groups); diff != "" || got.GroupsIncomplete != tc.incomplete {
				t.Errorf("groups %q, incomplete %v: want %q, %v", got.Groups, got.GroupsIncomplete, tc.want, tc.incomplete)
			}
		})
	}
	if n := idp.Calls("userinfo"); n != 0 {
		t.Errorf("the claim source that a token named was asked %d times", n)
	}
}

// OIDC-16, OIDC-18: an address counts when the provider says so and may say so.
func TestOIDC18AddressesAreVerifiedOnlyByAProviderThatMayVouch(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	corp := func(c *Config) { c.EmailDomains = []string{"corp.example", "bücher.example"} }
	trusting := func(c *Config) { corp(c); c.TrustEmail = true }
	for _, tc := range []struct {
		name     string
		email    any
		verified any
		config   func(*Config)
		want     bool
	}{
		{"verified", "alice@corp.example", true, nil, true},
		{"verified as text", "alice@corp.example", "true", nil, true},
		{"not verified", "alice@corp.example", false, nil, false},
		{"silent", "alice@corp.example", nil, nil, false},
		{"a number", "alice@corp.example", 1, nil, false},
		{"own domain", "alice@CORP.example", true, corp, true},
		{"own domain, international", "alice@xn--bcher-kva.example", true, corp, true},
		{"other domain", "alice@evil.example", true, corp, false},
		{"subdomain", "alice@sub.corp.example", true, corp, false},
		{"two signs", "mallory@evil.example@corp.example", true, corp, false},
		{"quoted", `"alice b"@corp.example`, true, corp, false},
		{"trailing dot", "alice@corp.example.", true, corp, false},
		{"no sign", "corp.example", true, nil, false},
		{"NUL", "alice\x00@corp.example", true, nil, false},
		{"trusted", "alice@corp.example", nil, trusting, true},
		{"trusted, but denied", "alice@corp.example", false, trusting, false},
		{"trusted for other domains", "alice@evil.example", nil, trusting, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			idp.SetPerson(map[string]any{"email": tc.email, "email_verified": tc.verified})
			got := mustSignIn(t, discoveredProvider(t, idp, tc.config)).Identity
			if got.EmailVerified != tc.want {
				t.Errorf("%q: verified %v, want %v", got.Email, got.EmailVerified, tc.want)
			}
		})
	}
}

// OIDC-16: the same address at another provider, or of another subject, is somebody else.
func TestOIDC16SameAddressIsNotTheSamePerson(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	seen := map[string]bool{}
	for _, name := range []string{"corp", "partner"} {
		for _, sub := range []string{"1", "2"} {
			idp.SetPerson(map[string]any{"sub": sub})
			p := discoveredProvider(t, idp, func(c *Config) { c.Name = name })
			seen[mustSignIn(t, p).Identity.ID()] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("got %v, want four people", seen)
	}
}

func TestMFAIsWhatTheConfigurationCallsSo(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	for _, tc := range []struct {
		amr  []string
		acr  any
		mfa  MFA
		want bool
	}{
		{[]string{"pwd", "mfa"}, nil, MFA{AMR: []string{"mfa"}}, true},
		{[]string{"pwd", "otp"}, nil, MFA{AMR: []string{"mfa"}}, false},
		{[]string{"hwk"}, nil, MFA{AMR: []string{"mfa", "hwk"}}, true},
		{nil, "gold", MFA{ACR: []string{"gold"}}, true},
		{nil, nil, MFA{}, false},
	} {
		var amr any
		if tc.amr != nil {
			amr = tc.amr
		}
		idp.SetPerson(map[string]any{"amr": amr, "acr": tc.acr})
		p := discoveredProvider(t, idp, func(c *Config) { c.MFA = tc.mfa })
		if got := mustSignIn(t, p).Identity.MFA; got != tc.want {
			t.Errorf("amr %q acr %v under %+v: MFA %v, want %v", tc.amr, tc.acr, tc.mfa, got, tc.want)
		}
	}
}
