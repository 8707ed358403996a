package config

import (
	"strings"
	"testing"
)

// Two parties of one name would be one identity; a provider that is not there would shut everybody out.
func TestNamesOfThoseWhoVouchAreDistinct(t *testing.T) {
	const (
		provider = "  providers: [{name: corp, issuer: https://login.corp.example, client_id: x, client_secret: y}]\n"
		issuer   = "{name: ci, issuer: https://ci.example, audience: https://auth.corp.example}"
	)
	with := func(text string) string { return minimal + "identity:\n" + text }
	apps := func(providers string) string {
		return provider + "apps:\n  - {name: a, host: a.corp.example, upstreams: http://10.0.0.1, access: {groups: staff}, providers: " + providers + "}\n"
	}
	for name, row := range map[string]struct{ text, want string }{
		"issuer and provider":          {provider + "  issuers: [{name: corp, issuer: https://ci.example, audience: x}]\n", `identity.issuers[0].name: "corp" is the name of identity.providers[0] already`},
		"two issuers":                  {"  issuers: [" + issuer + ", {name: ci, issuer: https://ci2.example, audience: x}]\n", `identity.issuers[1].name: "ci" is the name of identity.issuers[0] already`},
		"one issuer twice":             {"  issuers: [" + issuer + ", {name: ci2, issuer: https://ci.example, audience: x}]\n", `identity.issuers[1].issuer: "https://ci.example" is that of issuers[0] already`},
		"issuer of the reserved":       {"  issuers: [{name: certificate, issuer: https://ci.example, audience: x}]\n", `"certificate" is the name of service accounts already`},
		"provider of the reserved":     {strings.Replace(provider, "corp,", "certificate,", 1), `"certificate" is the name of service accounts already`},
		"two services":                 {"  services: [{name: b, certificate: {uri: x}}, {name: b, certificate: {uri: y}}]\n", `identity.services[1].name: "b" is the name of services[0] already`},
		"services without authorities": {"  services: [{name: b, certificate: {uri: x}}]\n", "tls.client_certificates.authorities is missing"},
		"service that everybody is":    {"  services: [{name: b}]\n", "certificate: say which"},
		"issuer without audience":      {"  issuers: [{name: ci, issuer: https://ci.example}]\n", "audience"},
		"symmetric":                    {"  issuers: [{name: ci, issuer: https://ci.example, audience: x, algorithms: HS256}]\n", "algorithms"},
		"app of nobody":                {apps("[lab]"), `apps[0].providers[0]: "lab" is no provider in identity.providers`},
		"provider twice":               {apps("[corp, corp]"), `apps[0].providers[1]: "corp" is there twice`},
	} {
		if _, err := loadConfig(t, with(row.text)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got\n%v\nwant in it: %s", name, err, row.want)
		}
	}
	if cfg, err := loadConfig(t, with(apps("[corp]")[:strings.Index(apps("[corp]"), "apps:")]+"  issuers: ["+issuer+"]\n  personal_tokens: {enabled: true}\n")); err != nil {
		t.Error(err)
	} else if i := cfg.Identity.Issuers[0]; len(i.Algorithms) != 1 || i.Algorithms[0] != "RS256" || cfg.Identity.PersonalTokens.MaxPerPerson != 20 {
		t.Errorf("defaults: %+v, %+v", i, cfg.Identity.PersonalTokens)
	}
	if _, err := loadConfig(t, with(apps("[corp]"))); err != nil {
		t.Error(err)
	}
}
