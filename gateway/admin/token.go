package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/authn/personal"
	"sallyport/authn/session"
)

// CodeRevokeToken is the control record of a personal token that an operator revokes: one for each, before it ends; detail:
// the token.
const CodeRevokeToken = "token_revoked"

// Tokens lists and ends people's personal tokens; personal.Keeper is one.
type Tokens interface {
	List(ctx context.Context, f personal.Filter) ([]personal.Token, error)
	// Revoke ends the tokens durably before it returns them.
	Revoke(ctx context.Context, f personal.Filter) ([]personal.Token, error)
}

// People says who somebody is, as their provider last confirmed; session.Keeper does.
type People interface {
	Person(ctx context.Context, subject string) (session.Person, error)
}

// Token is a personal token as operators see it. Nothing leads back to its secret.
type Token struct {
	ID      string    `json:"id"`
	Owner   string    `json:"owner"` // provider|subject
	Email   string    `json:"email,omitzero"`
	Name    string    `json:"name"`
	Apps    []string  `json:"apps"`    // or "*"
	Methods []string  `json:"methods"` // or "*"
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
	State   string    `json:"state"` // active, expired or revoked
}

// TokenFilter selects tokens; what is set must all hold.
type TokenFilter struct {
	ID    string `json:"id,omitzero"`
	Owner string `json:"owner,omitzero"` // provider|subject
	Email string `json:"email,omitzero"` // of the owner, as their provider last said, whatever its case
	App   string `json:"app,omitzero"`   // those that name this app
	All   bool   `json:"all,omitzero"`   // every token: must be said to revoke without any other field
}

// query is the filter as the query of a list; a list has no use for All.
func (f TokenFilter) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"id": f.ID, "owner": f.Owner, "email": f.Email, "app": f.App} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

func tokenFilterFromQuery(q url.Values) (TokenFilter, error) {
	var f TokenFilter
	fields := map[string]*string{"id": &f.ID, "owner": &f.Owner, "email": &f.Email, "app": &f.App}
	for name, values := range q {
		field := fields[name]
		if field == nil || len(values) != 1 {
			return TokenFilter{}, fmt.Errorf("unknown or repeated parameter %q", name)
		}
		*field = values[0]
	}
	return f, nil
}

func (s *operatorServer) tokens(w http.ResponseWriter, r *http.Request) {
	filter, err := tokenFilterFromQuery(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	found, err := s.findTokens(r.Context(), filter)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, found)
}

// findTokens never returns nil: lists are lists for programs, empty ones too.
func (s *operatorServer) findTokens(ctx context.Context, f TokenFilter) ([]Token, error) {
	list, err := s.Tokens.List(ctx, personal.Filter{ID: f.ID, Owner: f.Owner})
	if err != nil {
		return nil, err
	}
	now, emails, found := time.Now(), map[string]string{}, []Token{}
	for _, t := range list {
		email, known := emails[t.Owner]
		if !known {
			if email, err = s.emailOf(ctx, t.Owner); err != nil {
				return nil, err
			}
			emails[t.Owner] = email
		}
		if f.Email != "" && !strings.EqualFold(f.Email, email) || f.App != "" && !slices.Contains(t.Apps, f.App) {
			continue
		}
		found = append(found, Token{ID: t.ID, Owner: t.Owner, Email: email, Name: t.Name, Apps: t.Apps, Methods: t.Methods,
			Created: t.Created, Expires: t.Expires, Used: t.Used, State: string(t.State(now))})
	}
	return found, nil
}

// emailOf is empty for people who are not known any more.
func (s *operatorServer) emailOf(ctx context.Context, owner string) (string, error) {
	p, err := s.People.Person(ctx, owner)
	if errors.Is(err, session.ErrNoPerson) || err == nil && p.Identity == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return p.Identity.Email, nil
}

// revokeTokens ends the active ones among the tokens that match, each on record before it ends. After an error some may
// have ended; their records say which.
func (s *operatorServer) revokeTokens(w http.ResponseWriter, r *http.Request) {
	var filter TokenFilter
	if !read(w, r, &filter) {
		return
	}
	if filter == (TokenFilter{}) {
		fail(w, http.StatusBadRequest, personal.ErrEmptyFilter.Error())
		return
	}
	found, err := s.findTokens(r.Context(), filter)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	ended := []Token{}
	for _, t := range found {
		if t.State != string(personal.Active) {
			continue
		}
		if !s.recorded(w, r, CodeRevokeToken, tokenDetail{t.ID, t.Owner, t.Name, t.Apps, t.Methods}) {
			return
		}
		// What is on record as ended ends, also when the caller goes away.
		if _, err := s.Tokens.Revoke(context.WithoutCancel(r.Context()), personal.Filter{ID: t.ID}); err != nil {
			s.failed(w, r, CodeRevokeToken, http.StatusServiceUnavailable, err)
			return
		}
		t.State = string(personal.Revoked)
		ended = append(ended, t)
	}
	answer(w, ended)
}

// tokenDetail is what a record says of a token.
type tokenDetail struct {
	ID      string   `json:"id"`
	Owner   string   `json:"owner"`
	Name    string   `json:"name"`
	Apps    []string `json:"apps"`
	Methods []string `json:"methods"`
}

// Tokens lists personal tokens.
func (c *Client) Tokens(ctx context.Context, f TokenFilter) ([]Token, error) {
	var found []Token
	err := c.call(ctx, http.MethodGet, "/v1/tokens?"+f.query().Encode(), nil, &found)
	return found, err
}

// RevokeTokens ends personal tokens and returns them.
func (c *Client) RevokeTokens(ctx context.Context, f TokenFilter) ([]Token, error) {
	var ended []Token
	err := c.call(ctx, http.MethodPost, "/v1/tokens/revoke", f, &ended)
	return ended, err
}
