package certs

import (
	"errors"
	"fmt"
	"time"
)

// CheckFiles reads every certificate that Load would, without a key process to match them with. It returns what is
// wrong with each file.
func CheckFiles(cfg Config) error {
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	files, err := expand(cfg.Certificates)
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		chain, err := readChain(file)
		if err == nil {
			err = checkServerChain(chain, time.Now())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", file, err))
		}
	}
	return errors.Join(errs...)
}
