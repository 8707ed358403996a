package certs

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"sallyport/certs/keyring"
)

// SoonExpired is how long before its end a certificate is worth a warning.
const SoonExpired = 30 * 24 * time.Hour

// CheckFiles reads every certificate that Load would, without a key process to match them with, and describes them. The
// error says what is wrong with each file.
func CheckFiles(cfg Config) ([]Info, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	files, err := expand(cfg.Certificates)
	if err != nil {
		return nil, err
	}
	var infos []Info
	var errs []error
	for _, file := range files {
		chain, err := readChain(file)
		if err == nil {
			err = checkServerChain(chain, time.Now())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", file, err))
			continue
		}
		infos = append(infos, describe(file, chain[0], keyring.Key{}))
	}
	if len(errs) == 0 {
		errs = append(errs, cfg.checkDefault(infos))
	}
	return infos, errors.Join(errs...)
}

// checkDefault tells whether there is a certificate for the default host.
func (c Config) checkDefault(infos []Info) error {
	if c.Default == "" || c.ACME != nil || slices.ContainsFunc(infos, func(i Info) bool { return i.covers(c.Default) }) {
		return nil
	}
	return fmt.Errorf("tls: default: no certificate is for %s", c.Default)
}

// DaysLeft is how many whole days the certificate is still valid; negative since it expired.
func (i Info) DaysLeft(now time.Time) int {
	return int(math.Floor(i.NotAfter.Sub(now).Hours() / 24))
}

// State is how long a certificate lasts, in a word.
type State string

// States of a certificate.
const (
	Valid       State = "valid"
	ExpiresSoon State = "expires_soon" // within SoonExpired
	Expired     State = "expired"
)

// State tells whether the certificate is valid, and for long.
func (i Info) State(now time.Time) State {
	switch {
	case now.After(i.NotAfter):
		return Expired
	case i.NotAfter.Sub(now) < SoonExpired:
		return ExpiresSoon
	}
	return Valid
}

// Concerns says, a line each, what will not work with these certificates for these hosts, or not for long, or at a price.
// None of it keeps the gateway from starting.
func Concerns(infos []Info, hosts []string, now time.Time) []string {
	var lines []string
	for _, i := range infos {
		if i.State(now) != Valid {
			lines = append(lines, fmt.Sprintf("%s expires in %d days, at %s.", i.File, i.DaysLeft(now), i.NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	for _, host := range hosts {
		if !slices.ContainsFunc(infos, func(i Info) bool { return i.covers(host) }) {
			lines = append(lines, fmt.Sprintf("no certificate is for %s: nobody can reach it.", host))
		}
	}
	for _, i := range infos {
		if names := i.shared(hosts); names != "" {
			// RFC 9113 §9.1.1: a client may use one connection for every host that its certificate is for.
			lines = append(lines, fmt.Sprintf("%s is for %s: browsers may ask one host on the connection of another, which works at the price of a 421 and a retry; a certificate for each host spares them.", i.File, names))
		}
	}
	return lines
}

// shared says for which hosts at once a certificate is, if for more than one.
func (i Info) shared(hosts []string) string {
	if wild := slices.IndexFunc(i.Names, func(name string) bool { return strings.HasPrefix(name, "*.") }); wild >= 0 {
		return i.Names[wild]
	}
	var mine []string
	for _, host := range hosts {
		if i.covers(host) {
			mine = append(mine, host)
		}
	}
	switch {
	case len(mine) < 2:
		return ""
	case len(mine) > 3:
		return fmt.Sprintf("%s and %d more", strings.Join(mine[:3], ", "), len(mine)-3)
	}
	return strings.Join(mine, ", ")
}
