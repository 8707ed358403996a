package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn"
)

const (
	maxScopes     = 64
	maxScopeBytes = 512 // together, so that a token fits its record
)

// claims are what a token says, with its numbers as they are spelt.
type claims map[string]any

// UnmarshalJSON keeps the spelling of numbers.
func (c *claims) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	m := map[string]any{}
	if err := d.Decode(&m); err != nil {
		return err
	}
	*c = m
	return nil
}

// errUnchecked: the parser is told not to validate, which is what these methods are for.
var errUnchecked = errors.New("BUG: claims are checked by their issuer's settings")

// GetExpirationTime and the others make claims a jwt.Claims.
func (*claims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, errUnchecked }
func (*claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, errUnchecked }
func (*claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, errUnchecked }
func (*claims) GetIssuer() (string, error)                   { return "", errUnchecked }
func (*claims) GetSubject() (string, error)                  { return "", errUnchecked }
func (*claims) GetAudience() (jwt.ClaimStrings, error)       { return nil, errUnchecked }

// texts are a claim's texts: it is one, or a list of nothing else.
func texts(claim any) ([]string, bool) {
	switch claim := claim.(type) {
	case string:
		return []string{claim}, true
	case []any:
		list := make([]string, len(claim))
		for i, e := range claim {
			text, ok := e.(string)
			if !ok {
				return nil, false
			}
			list[i] = text
		}
		return list, true
	}
	return nil, false
}

// checkAudience wants one of our audiences among the token's (RFC 7519 §4.1.3). A token for several, of which another party
// is the authorized one (azp), was made for that party, unless require says that this is as it should be.
func (i *trusted) checkAudience(said claims) *Refused {
	audience, ok := texts(said["aud"])
	ours := func(a string) bool { return slices.Contains(i.Audience, a) }
	if !ok || !slices.ContainsFunc(audience, ours) {
		return &Refused{Code: CodeAudience}
	}
	azp, has := said["azp"]
	if !has || len(audience) == 1 || len(i.Require["azp"]) > 0 {
		return nil
	}
	if party, isText := azp.(string); !isText || !ours(party) {
		return &Refused{Code: CodeAudience, Err: errors.New("azp is another party")}
	}
	return nil
}

// latest is the last second of the year 9999: what is later is no time that anybody means.
const latest = 253402300799

// moment is a NumericDate (RFC 7519 §2): a number, and no text that looks like one.
func moment(claim any) (time.Time, bool) {
	number, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseFloat(string(number), 64)
	if err != nil || math.IsNaN(seconds) || seconds < 0 || seconds > latest {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

func (i *trusted) checkTimes(said claims, now time.Time) *Refused {
	exp, hasExp := moment(said["exp"])
	iat, hasIat := moment(said["iat"])
	nbf, isTime := moment(said["nbf"])
	_, hasNbf := said["nbf"]
	switch {
	case !hasExp || !hasIat || hasNbf && !isTime:
		return &Refused{Code: CodeTimes}
	case !now.Before(exp.Add(i.Skew)):
		return &Refused{Code: CodeTokenExpiry}
	case hasNbf && now.Before(nbf.Add(-i.Skew)), now.Before(iat.Add(-i.Skew)):
		return &Refused{Code: CodeNotYet}
	case !now.Before(iat.Add(i.MaxAge + i.Skew)):
		return &Refused{Code: CodeTooOld}
	}
	return nil
}

// expires is until when a token is good whose times were checked.
func (i *trusted) expires(said claims) time.Time {
	exp, _ := moment(said["exp"])
	iat, _ := moment(said["iat"])
	if oldest := iat.Add(i.MaxAge); oldest.Before(exp) {
		exp = oldest
	}
	return exp.Add(i.Skew)
}

func (i *trusted) checkRequired(said claims) *Refused {
	for name, wanted := range i.Require {
		if !slices.ContainsFunc(words(said[name]), func(word string) bool { return slices.Contains(wanted, word) }) {
			return &Refused{Code: CodeClaim, Err: fmt.Errorf("the claim %q", name)}
		}
	}
	return nil
}

// words are what a claim says, in texts.
func words(claim any) []string {
	switch claim := claim.(type) {
	case bool:
		return []string{strconv.FormatBool(claim)}
	case json.Number:
		return []string{string(claim)}
	}
	list, _ := texts(claim)
	return list
}

// scopes are those of RFC 8693 §4.2, in one text, or of scp, as Microsoft and others have it.
func scopes(said claims) (list []string) {
	if text, ok := said["scope"].(string); ok {
		list = strings.Fields(text)
	} else {
		list, _ = texts(said["scope"])
	}
	more, _ := texts(said["scp"])
	for _, text := range more {
		list = append(list, strings.Fields(text)...)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	size := 0
	for n, scope := range list {
		if size += len(scope); n == maxScopes || size > maxScopeBytes { // a policy that looks for a further one denies
			return list[:n]
		}
	}
	return list
}

func (i *trusted) checkScopes(said claims) *Refused {
	has := scopes(said)
	for _, scope := range i.Scopes {
		if !slices.Contains(has, scope) {
			return &Refused{Code: CodeScopes}
		}
	}
	return nil
}

// identity is who the token names, as a program. An e-mail address in it is nobody's to vouch for.
func (i *trusted) identity(said claims) (*authn.Identity, error) {
	sub, _ := said["sub"].(string)
	id := authn.Identity{Kind: authn.Service, Provider: i.Name, Subject: sub, Name: sub, Groups: slices.Clone(i.Groups)}
	if i.GroupsClaim != "" {
		groups, ok := texts(said[i.GroupsClaim])
		id.Groups, id.GroupsIncomplete = append(id.Groups, groups...), !ok && said[i.GroupsClaim] != nil
	}
	id.ACR, _ = said["acr"].(string)
	id.AMR, _ = texts(said["amr"])
	id.AuthTime, _ = moment(said["auth_time"])
	for _, name := range i.Claims {
		if value, has := said[name]; has {
			if id.Claims == nil {
				id.Claims = map[string]any{}
			}
			id.Claims[name] = value
		}
	}
	return authn.New(id)
}
