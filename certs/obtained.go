package certs

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"sallyport/certs/keyring"
)

// WithObtained is the store that Load made of cfg, with the chains that were obtained by ACME as they are now. Those that the
// operator provides stay as they are: one that has expired keeps no other host from its new certificate.
func (s *Store) WithObtained(ctx context.Context, cfg Config, keys Keys) (*Store, error) {
	list, err := keys.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("matching certificates with keys: %w", err)
	}
	next := newStore(cfg)
	next.given = s.given
	for _, one := range s.given {
		next.add(one)
	}
	next.addObtained(cfg, list, keys)
	next.sort()
	return next, nil
}

// addObtained takes the chains that were obtained by ACME into the store. One that is not fit to be served, because it
// expired while the gateway was down, say, is left out: it must not keep the gateway from getting a better one.
func (s *Store) addObtained(cfg Config, list []keyring.Key, keys Keys) {
	if cfg.ACME == nil {
		return
	}
	files, err := filepath.Glob(cfg.ACME.Chains())
	if err != nil {
		s.unfit = append(s.unfit, fmt.Errorf("chains that were obtained: %w", err))
	}
	for _, file := range files {
		one, err := s.read(file, list, keys)
		if err != nil {
			s.unfit = append(s.unfit, fmt.Errorf("certificate %s: %w", file, err))
			continue
		}
		s.add(one)
	}
}

// Unfit says why chains that were obtained by ACME are not served.
func (s *Store) Unfit() []error { return slices.Clone(s.unfit) }
