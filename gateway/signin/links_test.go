package signin_test

import (
	"testing"
	"time"

	"sallyport/authn/oidc"
)

// link loads the configuration anew, with accounts of the provider as other people's.
func (b *bed) link(people map[string]string) {
	b.t.Helper()
	p, err := oidc.New(oidc.Config{
		Name: "corp", Title: "CORP", Issuer: b.idp.Issuer, ClientID: b.idp.Client.ID, ClientSecret: oidc.Secret(b.idp.Client.Secret),
		Scopes: []string{"openid"}, MFA: oidc.MFA{AMR: []string{"mfa"}}, Skew: time.Minute,
	}, oidc.Options{RedirectURL: b.idp.Client.RedirectURI, Now: b.now, Among: oidc.Standing{People: people}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := p.Discover(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.serve(b.keeper, p)
}

// A configuration that joins or parts accounts while people are signed in: whoever comes back from the provider is somebody
// else by now. Their session of before is not raised, and does not stand in the way: it is replaced.
func TestLinkMadeSinceTheSignInStartsANewSession(t *testing.T) {
	for name, people := range map[string][2]map[string]string{
		"joined": {nil, {"alice-1": "home|a"}},
		"parted": {{"alice-1": "home|a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.link(people[0])
			br := b.browser()
			br.open(wikiOrigin + "/")
			before := b.sessions()[0]
			b.link(people[1])
			b.needs = mfaFor("payroll.corp.example")
			withFactors(b)
			br.open(payOrigin+"/slips").wantUser(t, "alice-1", payOrigin+"/slips")
			all := b.sessions()
			if len(all) != 1 || all[0].ID == before.ID || all[0].Identity.ID() == before.Identity.ID() || !all[0].Identity.MFA {
				t.Errorf("sessions are %+v, want one that is new and of the other person", all)
			}
			if b.records.count("sign_out:replaced") != 1 || b.records.count("session_raised") != 0 {
				t.Errorf("records %q", b.records.codes())
			}
		})
	}
}
