// Package authn says who is asking. An Identity is what every way of signing in (a session, a bearer token, a client
// certificate) comes down to; the packages below authn produce identities, the gateway hands them to the policy and
// to the apps.
//
// Identity is the pair of provider and subject, never an e-mail address or a name: those are attributes that a
// provider may reassign (OpenID Connect Core 1.0 §5.7).
package authn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind tells people from programs. The zero value is no kind and is refused by New.
type Kind string

// The kinds of identity. Nobody is not a kind: a nil *Identity is anonymous.
const (
	User    Kind = "user"    // a person who signed in
	Service Kind = "service" // a program with a token or a certificate of its own
)

// Bounds of what a provider can make us carry in memory, in the session store and in every audit record.
const (
	MaxGroups      = 500      // number of groups
	MaxGroupsBytes = 24 << 10 // bytes of all group names together
	MaxClaimsBytes = 16 << 10 // bytes of the allow-listed claims as JSON
	maxSubject     = 255      // OpenID Connect Core 1.0 §2: at most 255 characters
	maxProvider    = 64
	maxName        = 256
	maxEmail       = 254 // RFC 5321 §4.5.3.1.3: a path is 256 octets with its angle brackets
	maxAMR         = 32
)

// Identity is one person or program, as vouched for by a provider. It is immutable once New has returned it and is
// shared between goroutines.
type Identity struct {
	Kind Kind `json:"kind"`

	// Provider is the name of the provider in the configuration, Subject the provider's own name for the identity.
	Provider string `json:"provider"`
	Subject  string `json:"subject"`
	// Person is set when the configuration says that this account belongs to a person who is known by another one, as
	// "provider|subject": it is who they are, while everything else here is what Provider says about Subject.
	Person string `json:"person,omitempty"`

	// Email counts only when EmailVerified: a provider that is allowed to vouch has checked that the mailbox is theirs.
	Email         string `json:"email,omitempty"`
	EmailVerified bool   `json:"email_verified,omitempty"`
	Name          string `json:"name,omitempty"` // for people to read; decides nothing

	// Groups is sorted, without duplicates or empty names. GroupsIncomplete says that there may be more: the provider
	// said so, or there were more than MaxGroups or MaxGroupsBytes. A rule that denies by group cannot be evaluated then.
	Groups           []string `json:"groups,omitempty"`
	GroupsIncomplete bool     `json:"groups_incomplete,omitempty"`

	// Claims are the further claims that the configuration allows through, as JSON values (numbers are json.Number).
	Claims map[string]any `json:"claims,omitempty"`

	ACR      string    `json:"acr,omitempty"`      // authentication context class (OpenID Connect Core 1.0 §2)
	AMR      []string  `json:"amr,omitempty"`      // methods used to authenticate (RFC 8176), in the provider's order
	AuthTime time.Time `json:"auth_time,omitzero"` // when the provider last saw the person authenticate; UTC, whole seconds
	MFA      bool      `json:"mfa,omitempty"`      // more than one factor, by the provider's configured meaning of ACR and AMR
}

// New checks and normalises an identity: groups sorted and unique within bounds, claims as plain JSON values, times
// in UTC seconds, e-mail addresses we cannot read dropped. It copies what it keeps. An identity without a usable
// provider and subject is an error; everything else that is too much is cut, and cut groups are marked incomplete.
func New(id Identity) (*Identity, error) {
	if id.Kind != User && id.Kind != Service {
		return nil, fmt.Errorf("identity: unknown kind %q", id.Kind)
	}
	if err := checkName(id.Provider, maxProvider); err != nil || strings.Contains(id.Provider, "|") {
		return nil, errors.Join(fmt.Errorf("identity: bad provider name %q", id.Provider), err)
	}
	if err := checkName(id.Subject, maxSubject); err != nil {
		return nil, fmt.Errorf("identity: bad subject: %w", err)
	}
	if id.Person != "" {
		if err := checkName(id.Person, maxProvider+1+maxSubject); err != nil || !strings.Contains(id.Person, "|") {
			return nil, errors.Join(fmt.Errorf("identity: bad person %q", id.Person), err)
		}
	}
	id.Groups, id.GroupsIncomplete = normaliseGroups(id.Groups, id.GroupsIncomplete)
	if len(id.Email) > maxEmail || checkName(id.Email, maxEmail) != nil {
		id.Email, id.EmailVerified = "", false
	}
	// An address with two @ ends in one domain and belongs to another: nobody's policy may read it as verified.
	id.EmailVerified = id.EmailVerified && EmailDomain(id.Email) != ""
	id.Name = clip(id.Name, maxName)
	id.ACR = clip(id.ACR, maxName)
	id.AMR = slices.Clone(id.AMR[:min(len(id.AMR), maxAMR)])
	for i := range id.AMR {
		id.AMR[i] = clip(id.AMR[i], maxName)
	}
	if !id.AuthTime.IsZero() {
		id.AuthTime = id.AuthTime.UTC().Truncate(time.Second)
	}
	claims, err := normaliseClaims(id.Claims)
	if err != nil {
		return nil, err
	}
	id.Claims = claims
	return &id, nil
}

// ID is the identity's one name, provider + "|" + subject, or the Person that it is linked to. Provider names hold no "|",
// so no two accounts share it unless the configuration says so.
func (id *Identity) ID() string {
	if id.Person != "" {
		return id.Person
	}
	return id.Provider + "|" + id.Subject
}

// Domain is the domain of the verified e-mail address as EmailDomain gives it, and "" when the address is not
// verified or not one we can read.
func (id *Identity) Domain() string {
	if !id.EmailVerified {
		return ""
	}
	return EmailDomain(id.Email)
}

// UnmarshalJSON reads what json.Marshal wrote. Numbers among the claims stay json.Number, so that the policy sees the
// same digits before and after storage.
func (id *Identity) UnmarshalJSON(data []byte) error {
	type plain Identity // without this method
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	var p plain
	if err := dec.Decode(&p); err != nil {
		return fmt.Errorf("reading identity: %w", err)
	}
	*id = Identity(p)
	return nil
}

func normaliseGroups(groups []string, incomplete bool) ([]string, bool) {
	kept := make([]string, 0, min(len(groups), MaxGroups+1))
	for _, g := range groups {
		switch {
		case g == "":
		case !utf8.ValidString(g) || len(g) > MaxGroupsBytes:
			incomplete = true // there is a group that we cannot name
		default:
			kept = append(kept, g)
		}
	}
	slices.Sort(kept)
	kept = slices.Compact(kept)
	size := 0
	for i, g := range kept {
		if size += len(g); i == MaxGroups || size > MaxGroupsBytes {
			return slices.Clip(kept[:i]), true
		}
	}
	if len(kept) == 0 {
		return nil, incomplete
	}
	return slices.Clip(kept), incomplete
}

// normaliseClaims takes claims through JSON once, so that an identity is the same value before and after storage.
func normaliseClaims(claims map[string]any) (map[string]any, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(claims)
	if err != nil {
		return nil, fmt.Errorf("identity: claims: %w", err)
	}
	if len(data) > MaxClaimsBytes {
		return nil, fmt.Errorf("identity: %d bytes of claims, at most %d are kept", len(data), MaxClaimsBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var plain map[string]any
	if err := dec.Decode(&plain); err != nil {
		return nil, fmt.Errorf("identity: claims: %w", err)
	}
	return plain, nil
}

func checkName(s string, most int) error {
	switch {
	case s == "":
		return errors.New("empty")
	case len(s) > most:
		return fmt.Errorf("%d bytes long, at most %d", len(s), most)
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("holds a control character")
	}
	return nil
}

// clip makes text fit for display: valid UTF-8, no control characters, at most most bytes.
func clip(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
