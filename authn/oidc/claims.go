package oidc

import (
	"encoding/json"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"sallyport/authn"
)

// result makes the identity out of a statement.
func (p *Provider) result(said *statement, answer *oauth2.Token) (*Result, *Failure) {
	names := p.cfg.Claims
	id := authn.Identity{
		Kind:     authn.User,
		Provider: p.cfg.Name,
		Subject:  said.subject,
		Email:    text(said.claims, names.Email),
		Name:     text(said.claims, names.Name),
		ACR:      text(said.claims, "acr"),
		AMR:      texts(said.claims["amr"]),
		AuthTime: said.authTime,
		Person:   p.among.People[said.subject],
		Claims:   map[string]any{},
	}
	id.EmailVerified = p.vouches(said.claims, id.Email)
	id.Groups, id.GroupsIncomplete = said.groups, said.groupsIncomplete
	for _, name := range names.Extra {
		if value := lookup(said.claims, name); value != nil {
			id.Claims[name] = value
		}
	}
	said.carryOver(&id)
	id.MFA = p.usedMFA(&id)

	made, err := authn.New(id)
	if err != nil {
		return nil, fail(SubjectInvalid, "%w", err)
	}
	return &Result{Identity: made, RefreshToken: answer.RefreshToken, IDToken: idTokenOf(answer), Session: said.session}, nil
}

// carryOver keeps how and when a person authenticated: a refresh is no authentication, and its auth_time is that of the first
// one (OpenID Connect Core §12.2). Providers leave these claims out, or say what another of the person's browsers came to
// meanwhile: nobody gains by that who holds an older cookie. Groups and addresses are never kept: not being named any more is
// how providers take them away.
func (s *statement) carryOver(id *authn.Identity) {
	if s.before == nil {
		return
	}
	id.ACR, id.AMR, id.AuthTime = s.before.ACR, s.before.AMR, s.before.AuthTime
}

// groups reads the groups claim. Incomplete says that there may be groups we were not told of: the provider put them
// elsewhere (Entra ID above 200 groups: _claim_names, or hasgroups), or wrote them in a way we do not read. The place
// that _claim_sources names is not asked: its URL comes out of a token.
func (p *Provider) groups(claims map[string]any) (groups []string, incomplete bool) {
	groups, unread := p.listed(claims)
	return groups, unread || groupsElsewhere(claims, p.cfg.Claims.Groups)
}

// listed are the groups in the claim itself; unread says that there are some in it that we cannot name.
func (p *Provider) listed(claims map[string]any) (groups []string, unread bool) {
	name := p.cfg.Claims.Groups
	if name == "" {
		return nil, false
	}
	switch value := lookup(claims, name).(type) {
	case nil:
		return nil, false
	case string:
		return []string{value}, false
	case []any:
		groups = texts(value)
		return groups, len(groups) != len(value)
	}
	return nil, true
}

func groupsElsewhere(claims map[string]any, name string) bool {
	if name == "" {
		return false
	}
	elsewhere, _ := claims["_claim_names"].(map[string]any)
	_, named := elsewhere[name]
	_, usual := elsewhere["groups"]
	return named || usual || isTrue(claims["hasgroups"])
}

// vouches tells whether an address counts as verified: the provider says so, or manages its addresses itself and says
// nothing; and its domain is one that this provider may vouch for.
func (p *Provider) vouches(claims map[string]any, email string) bool {
	verified := lookup(claims, p.cfg.Claims.EmailVerified)
	if !isTrue(verified) && !(verified == nil && p.cfg.TrustEmail) {
		return false
	}
	domain := authn.EmailDomain(email)
	if len(p.cfg.EmailDomains) == 0 {
		return domain != "" && !slices.Contains(p.among.Reserved, domain)
	}
	return p.Serves(email)
}

// Serves tells whether the provider is the one for an address: its domain is among the email_domains.
func (p *Provider) Serves(email string) bool {
	domain := authn.EmailDomain(email)
	return domain != "" && slices.Contains(p.cfg.domains(), domain)
}

func (p *Provider) usedMFA(id *authn.Identity) bool {
	return slices.Contains(p.cfg.MFA.ACR, id.ACR) ||
		slices.ContainsFunc(id.AMR, func(method string) bool { return slices.Contains(p.cfg.MFA.AMR, method) })
}

// lookup finds a claim by its name or, where there is none of that name, along its dots. Absent and null are nil.
func lookup(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	first, rest, nested := strings.Cut(name, ".")
	inner, ok := claims[first].(map[string]any)
	if !nested || !ok {
		return nil
	}
	return lookup(inner, rest)
}

func text(claims map[string]any, name string) string {
	s, _ := lookup(claims, name).(string)
	return s
}

// texts keeps the texts of a list.
func texts(value any) []string {
	list, _ := value.([]any)
	var all []string
	for _, element := range list {
		if s, ok := element.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// isTrue reads a boolean claim; some providers write it as a text.
func isTrue(value any) bool {
	switch v := value.(type) {
	case bool:
		return v
	case string:
		return v == "true"
	case json.Number:
		return false
	}
	return false
}
