package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/authn"
	"sallyport/authn/personal"
	"sallyport/authn/session"
)

func (h *house) Person(_ context.Context, subject string) (session.Person, error) {
	if subject != "corp|7" {
		return session.Person{}, session.ErrNoPerson
	}
	return session.Person{Identity: &authn.Identity{Provider: "corp", Subject: "7", Email: "Ada@corp.example"}}, nil
}

// houseTokens are the tokens of a house: two of Ada's, of which one has ended, and one of somebody who is forgotten.
type houseTokens struct{ *house }

func (h houseTokens) List(_ context.Context, f personal.Filter) ([]personal.Token, error) {
	var found []personal.Token
	for _, t := range []personal.Token{
		{ID: "pat_1", Owner: "corp|7", Name: "backup", Apps: []string{"wiki"}, Methods: []string{personal.Any}, Expires: time.Now().Add(time.Hour)},
		{ID: "pat_2", Owner: "corp|7", Name: "old", Apps: []string{"pay", "wiki"}, Methods: []string{"GET"}, Expires: time.Now().Add(-time.Hour)},
		{ID: "pat_3", Owner: "corp|8", Name: "job", Apps: []string{"pay"}, Methods: []string{"GET"}, Expires: time.Now().Add(time.Hour)},
	} {
		if (f.ID == "" || f.ID == t.ID) && (f.Owner == "" || f.Owner == t.Owner) {
			found = append(found, t)
		}
	}
	return found, nil
}

func (h houseTokens) Revoke(_ context.Context, f personal.Filter) ([]personal.Token, error) {
	h.did("revoke " + f.ID)
	return nil, nil
}

func TestTokensAreFoundByWhoAndWhat(t *testing.T) {
	c := client(t, start(t, &house{}, Config{}))
	for want, filter := range map[string]TokenFilter{
		"pat_1 pat_2 pat_3": {}, "pat_1 pat_2": {Email: "ada@CORP.example"}, "pat_3": {Owner: "corp|8"}, "pat_2 pat_3": {App: "pay"},
		"pat_2": {App: "pay", Email: "ada@corp.example"}, "": {Email: "nobody@corp.example"},
	} {
		found, err := c.Tokens(t.Context(), filter)
		var ids []string
		for _, one := range found {
			ids = append(ids, one.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != want {
			t.Errorf("%+v finds %q, %v, want %q", filter, got, err, want)
		}
	}
}

// ADM-05: each token that ends is on record before, with who ended it.
func TestRevokedTokensAreOnRecordFirst(t *testing.T) {
	h := &house{}
	c := client(t, start(t, h, Config{}))
	ended, err := c.RevokeTokens(t.Context(), TokenFilter{Email: "ada@corp.example"})
	if err != nil || len(ended) != 1 || ended[0].ID != "pat_1" || ended[0].State != "revoked" {
		t.Errorf("revoked %+v, %v", ended, err)
	}
	h.check(t, "record token_revoked", "revoke pat_1")
	if _, err := c.RevokeTokens(t.Context(), TokenFilter{All: true}); err != nil {
		t.Error(err)
	}
	h.check(t, "record token_revoked", "revoke pat_1", "record token_revoked", "revoke pat_3")
	var detail tokenDetail
	if err := json.Unmarshal(h.records[0].Detail, &detail); err != nil || detail.ID != "pat_1" || detail.Owner != "corp|7" || h.records[0].Actor.Kind != "os" {
		t.Errorf("recorded %s by %+v", h.records[0].Detail, h.records[0].Actor)
	}
	_, err = c.RevokeTokens(t.Context(), TokenFilter{})
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Status != http.StatusBadRequest {
		t.Errorf("revoking nothing in particular: %v, want 400", err)
	}
	h.recordErr = errors.New("disk full")
	if _, err := c.RevokeTokens(t.Context(), TokenFilter{All: true}); err == nil {
		t.Error("revoked what cannot be recorded")
	}
	h.check(t)
}
