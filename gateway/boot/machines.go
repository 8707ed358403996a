package boot

import (
	"sallyport/authn/personal"
	"sallyport/authn/token"
	"sallyport/gateway"
	"sallyport/gateway/config"
)

// openTokens readies the tokens that people make for their programs. It comes after the sessions and the rechecks, which know
// who the owners are.
func (a *assembly) openTokens(cfg *config.Config) {
	a.tokens = personal.New(cfg.Identity.PersonalTokens, a.store.Tokens(), owners{a.sessions, a.recheck}, a.opts.Now, a.opts.Log)
}

// runTokens follows what is revoked, once there is somebody to tell.
func (a *assembly) runTokens() {
	a.tokens.OnEnd(a.server.TokenEnded)
	a.group.Go(func() error { return a.tokens.Run(a.ctx) })
}

// knowMachines gives a configuration's snapshot the programs that it knows by tokens of issuers and by certificates. Keys
// of issuers that stay are kept; what tokens were good is not, since what they need may have changed.
func (a *assembly) knowMachines(f, previous *frozen) (err error) {
	var had *token.Verifier
	if previous != nil {
		had = previous.snapshot.Issuers
	}
	if f.snapshot.Programs, err = gateway.NewPrograms(f.config.Identity.Services, a.opts.Now()); err != nil {
		return err
	}
	f.snapshot.Issuers, err = issuersOf(f.config, token.VerifierConfig{Log: a.opts.Log, Now: a.opts.Now, Previous: had})
	return err
}

// issuersOf verifies tokens of a configuration's issuers; nil when there are none.
func issuersOf(cfg *config.Config, c token.VerifierConfig) (*token.Verifier, error) {
	if len(cfg.Identity.Issuers) == 0 {
		return nil, nil
	}
	c.Issuers = cfg.Identity.Issuers
	return token.NewVerifier(c)
}

// issuerFiles are the authorities that may vouch for issuers: a new one is a reload.
func issuerFiles(cfg *config.Config) (files []string) {
	for _, i := range cfg.Identity.Issuers {
		if i.CA != "" {
			files = append(files, i.CA)
		}
	}
	return files
}

// checkMachines makes, and drops, what knowMachines would.
func (f *frozen) checkMachines() error {
	if _, err := gateway.NewPrograms(f.config.Identity.Services, f.loaded); err != nil {
		return err
	}
	_, err := issuersOf(f.config, token.VerifierConfig{})
	return err
}
