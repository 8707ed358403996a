package boot

import (
	"context"
	"errors"
	"testing"

	"sallyport/authn"
	"sallyport/authn/oidc"
	"sallyport/authn/recheck"
	"sallyport/authn/session"
)

// remembered is somebody who signed in once.
type remembered struct{ who *authn.Identity }

func (r remembered) Person(context.Context, string) (session.Person, error) {
	return session.Person{Identity: r.who}, nil
}

// A provider that is taken out of the configuration takes the personal tokens of its people with it, and so does a link.
func TestTokensCountForThoseTheConfigurationKnows(t *testing.T) {
	known := func(people map[string]string, names ...string) *rechecking {
		r := &rechecking{}
		f := &frozen{}
		for _, name := range names {
			p, err := oidc.New(oidc.Config{Name: name, Issuer: "https://" + name + ".example", ClientID: "sallyport", ClientSecret: "s3cret"},
				oidc.Options{Among: oidc.Standing{People: people}})
			if err != nil {
				t.Fatal(err)
			}
			f.providers = append(f.providers, &provider{Provider: p})
		}
		r.follow(f)
		r.Rechecker = recheck.New(recheck.Config{Provider: r.provider})
		return r
	}
	alice := &authn.Identity{Kind: authn.User, Provider: "corp", Subject: "alice"}
	linked := &authn.Identity{Kind: authn.User, Provider: "corp", Subject: "alice", Person: "home|a"}
	link := map[string]string{"alice": "home|a"}
	for name, tc := range map[string]struct {
		config *rechecking
		who    *authn.Identity
		want   error
	}{
		"as they were":     {known(nil, "corp", "home"), alice, nil},
		"linked as before": {known(link, "corp"), linked, nil},
		"provider removed": {known(nil, "home"), alice, session.ErrNoPerson},
		"linked since":     {known(link, "corp"), alice, session.ErrNoPerson},
		"parted since":     {known(nil, "corp"), linked, session.ErrNoPerson},
	} {
		if _, err := (owners{remembered{tc.who}, tc.config}).Person(t.Context(), tc.who.ID()); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}
