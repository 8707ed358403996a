package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

var errGrantEnded = errors.New("the refresh token has ended")

// CreateAccessAndRefreshTokens hands out a refresh token in place of the one that was used: each works once.
func (s *store) CreateAccessAndRefreshTokens(_ context.Context, asked op.TokenRequest, used string) (string, string, time.Time, error) {
	r, ok := asked.(*request)
	if !ok {
		return "", "", time.Time{}, errCut
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if used != "" {
		if _, living := s.grants[used]; !living {
			return "", "", time.Time{}, errGrantEnded
		}
		delete(s.grants, used)
		s.spent[used] = r.session
	}
	if len(s.grants) >= maxSessions || len(s.spent) >= 100*maxSessions {
		clear(s.grants)
		clear(s.spent)
	}
	token := rand.Text()
	s.grants[token] = r
	return rand.Text(), token, time.Now().Add(tokenLife), nil
}

// TokenRequestByRefreshToken finds what a refresh token stands for. One that is shown twice was stolen, or its answer was
// lost: either way everything that came of it ends (RFC 9700 §4.14.2).
func (s *store) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sid, again := s.spent[token]; again {
		s.endGrantsLocked(sid)
		return nil, op.ErrInvalidRefreshToken
	}
	r, ok := s.grants[token]
	if !ok || s.disabled[r.person] {
		return nil, op.ErrInvalidRefreshToken
	}
	later := *r
	later.asked.Nonce, later.asked.State = "", "" // OpenID Connect Core §12.2: they belong to the sign-in
	return &later, nil
}

func (s *store) endGrantsLocked(sid string) {
	maps.DeleteFunc(s.grants, func(_ string, r *request) bool { return r.session == sid })
}
