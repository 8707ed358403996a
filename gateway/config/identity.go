package config

import (
	"errors"
	"fmt"

	"sallyport/authn/service"
)

// checkIdentity refuses names by which two parties could be taken for one another: identities are "<name>|<subject>",
// whoever of providers, issuers and certificates the name is.
func (c *Config) checkIdentity() error {
	id := &c.Identity
	names := map[string]string{service.Provider: "the name of service accounts"}
	var errs []error
	take := func(at, name string) {
		if taken, twice := names[name]; twice {
			errs = append(errs, At(at, fmt.Errorf("%q is %s already", name, taken)))
			return
		}
		names[name] = "the name of " + at[:len(at)-len(".name")]
	}
	for i, p := range id.Providers {
		if _, twice := names[p.Name]; !twice || p.Name == service.Provider { // two providers of one name: see checkProviders
			take(fmt.Sprintf("identity.providers[%d].name", i), p.Name)
		}
	}
	for i, issuer := range id.Issuers {
		take(fmt.Sprintf("identity.issuers[%d].name", i), issuer.Name)
	}
	return errors.Join(errors.Join(errs...), c.checkIssuers(), c.checkServices(), c.checkAppProviders())
}

// checkIssuers refuses two issuers whose tokens nobody could tell apart.
func (c *Config) checkIssuers() error {
	var errs []error
	first := map[string]int{}
	for i, issuer := range c.Identity.Issuers {
		if other, taken := first[issuer.Issuer]; taken {
			errs = append(errs, At(fmt.Sprintf("identity.issuers[%d].issuer", i), fmt.Errorf("%q is that of issuers[%d] already: tokens are told apart by it", issuer.Issuer, other)))
			continue
		}
		first[issuer.Issuer] = i
	}
	return errors.Join(errs...)
}

// checkServices refuses accounts of one name, and accounts of which no certificate could count.
func (c *Config) checkServices() error {
	var errs []error
	first := map[string]int{}
	for i, account := range c.Identity.Services {
		if other, taken := first[account.Name]; taken {
			errs = append(errs, At(fmt.Sprintf("identity.services[%d].name", i), fmt.Errorf("%q is the name of services[%d] already", account.Name, other)))
			continue
		}
		first[account.Name] = i
	}
	if len(c.Identity.Services) > 0 && len(c.TLS.ClientCertificates.Authorities) == 0 {
		errs = append(errs, At("identity.services", errors.New("tls.client_certificates.authorities is missing: nobody could have a certificate that counts")))
	}
	return errors.Join(errs...)
}

// checkAppProviders refuses an app that is for people of a provider that is not there.
func (c *Config) checkAppProviders() error {
	known := map[string]bool{}
	for _, p := range c.Identity.Providers {
		known[p.Name] = true
	}
	var errs []error
	for i, app := range c.Apps {
		seen := map[string]bool{}
		for j, name := range app.Providers {
			at := fmt.Sprintf("apps[%d].providers[%d]", i, j)
			switch {
			case !known[name]:
				errs = append(errs, At(at, fmt.Errorf("%q is no provider in identity.providers", name)))
			case seen[name]:
				errs = append(errs, At(at, fmt.Errorf("%q is there twice", name)))
			}
			seen[name] = true
		}
	}
	return errors.Join(errs...)
}
