package certs

import (
	"fmt"
	"path/filepath"
	"slices"

	"sallyport/certs/keyring"
)

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
		if err := s.add(file, list, keys); err != nil {
			s.unfit = append(s.unfit, fmt.Errorf("certificate %s: %w", file, err))
		}
	}
}

// Unfit says why chains that were obtained by ACME are not served.
func (s *Store) Unfit() []error { return slices.Clone(s.unfit) }
