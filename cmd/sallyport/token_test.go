package main

import (
	"context"
	"time"

	"sallyport/authn"
	"sallyport/authn/personal"
	"sallyport/authn/session"
)

func (g *scripted) Person(_ context.Context, subject string) (session.Person, error) {
	if subject != "corp|1" {
		return session.Person{}, session.ErrNoPerson
	}
	return session.Person{Identity: &authn.Identity{Provider: "corp", Subject: "1", Email: "ada@corp.example"}}, nil
}

// scriptedTokens are the personal tokens of a scripted gateway.
type scriptedTokens struct{ *scripted }

func (g scriptedTokens) List(_ context.Context, f personal.Filter) ([]personal.Token, error) {
	now := time.Now()
	var found []personal.Token
	for _, t := range []personal.Token{
		{ID: "pat_1", Owner: "corp|1", Name: "backup \x1b[31m\u202e", Apps: []string{"pay", "wiki"}, Methods: []string{personal.Any}, Created: now.Add(-3 * time.Hour),
			Used: now.Add(-10 * time.Minute), Expires: time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)},
		{ID: "pat_2", Owner: "corp|2", Name: "git", Apps: []string{"wiki"}, Methods: []string{"GET", "HEAD"}, Created: now.Add(-72 * time.Hour),
			Expires: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)},
	} {
		if (f.ID == "" || f.ID == t.ID) && (f.Owner == "" || f.Owner == t.Owner) {
			found = append(found, t)
		}
	}
	return found, nil
}

func (g scriptedTokens) Revoke(_ context.Context, f personal.Filter) ([]personal.Token, error) {
	return nil, g.did("revoke token " + f.ID)
}
