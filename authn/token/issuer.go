package token

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"sallyport/authn/jwks"
	"sallyport/authn/remote"
)

// Issuer is one issuer of tokens that programs show (RFC 7519).
type Issuer struct {
	// Name identifies the issuer in records and policies (input.subject.id is "name|sub"): lower-case letters, digits and
	// hyphens, at most 32, and none that an identity provider has. Required.
	Name string `yaml:"name" config:"required"`
	// Issuer is what the tokens' iss says, exactly. Must be https://, except on loopback. Required.
	Issuer string `yaml:"issuer" config:"required"`
	// Audience are the audiences of which a token must name one, for instance https://auth.corp.example. Required: without
	// it a token for anybody else would be good here.
	Audience []string `yaml:"audience" config:"required,single"`
	// Algorithms are the algorithms that the issuer signs with; no other is accepted, and none that is symmetric. Default:
	// RS256.
	Algorithms []string `yaml:"algorithms" config:"single" default:"RS256"`
	// JWKSURI is where the issuer's keys are. Default: what .well-known/openid-configuration below issuer says.
	JWKSURI string `yaml:"jwks_uri"`
	// Connect is the address to dial instead of looking the issuer's name up, as host or host:port. Default: look it up.
	Connect string `yaml:"connect"`
	// CA is a PEM file of the authorities that may vouch for the issuer. Default: the system's.
	CA string `yaml:"ca" config:"path"`
	// MaxAge is how long ago a token may have been made (iat), however long it says it is good for. Default 24h.
	MaxAge time.Duration `yaml:"max_age" default:"24h"`
	// Skew is how far the issuer's clock may be from ours, at most 5m. Default 1m.
	Skew time.Duration `yaml:"skew" default:"1m"`
	// Require are claims that a token must have, each with one of these texts, such as {repository: [corp/site]}: what
	// everybody can get tokens for, as at GitHub, needs some. Default: none.
	Require map[string][]string `yaml:"require"`
	// Groups are the groups that every program with a token of this issuer is in. Default: none.
	Groups []string `yaml:"groups" config:"single"`
	// GroupsClaim is the claim with further groups, as a list of texts or one text. Default: none.
	GroupsClaim string `yaml:"groups_claim"`
	// Claims are the claims that policies may read as input.subject.claims. Default: none.
	Claims []string `yaml:"claims" config:"single"`
	// Scopes are scopes (RFC 6749 §3.3; the claims scope or scp) that a token must all have. Default: none.
	Scopes []string `yaml:"scopes" config:"single"`
}

var issuerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Check tells what in i cannot work.
func (i Issuer) Check() error {
	base, err := remote.ParseBase(i.Issuer)
	known := jwks.Algorithms()
	switch {
	case !issuerName.MatchString(i.Name):
		return fmt.Errorf("name %q: want lower-case letters, digits and hyphens, at most 32", i.Name)
	case err != nil:
		return fmt.Errorf("issuer: %w", err)
	case i.JWKSURI != "" && !remote.AllowedEndpoint(i.JWKSURI, base):
		return fmt.Errorf("jwks_uri %q: want https://", i.JWKSURI)
	case remote.CheckConnect(i.Connect, base) != nil:
		return remote.CheckConnect(i.Connect, base)
	case len(i.Algorithms) == 0 || slices.ContainsFunc(i.Algorithms, func(alg string) bool { return !slices.Contains(known, alg) }):
		return fmt.Errorf("algorithms %q: want some of %s", i.Algorithms, strings.Join(known, ", "))
	case len(i.Audience) == 0 || slices.Contains(i.Audience, ""):
		return errors.New("audience is missing")
	case i.MaxAge <= 0:
		return fmt.Errorf("max_age %s: want more than nothing", i.MaxAge)
	case i.Skew < 0 || i.Skew > 5*time.Minute:
		return fmt.Errorf("skew %s: want 0 to 5m", i.Skew)
	}
	return nil
}
