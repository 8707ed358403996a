package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/audit"
	"sallyport/certs/keyring"
	"sallyport/gateway/admin"
)

// Places are what the command line needs to know of a configuration: where the running gateway is operated, where its
// logs are, and where the key process is that signs them.
type Places struct {
	Admin admin.Config
	Audit audit.Config   // with its origin
	Keys  keyring.Config // as far as the file has it: what is wrong with it shows when it is used
}

// SearchDir is the folder of the searchable copy of the logs.
func (p Places) SearchDir() string { return filepath.Join(p.Audit.Dir, "search") }

// Find reads the places out of a configuration that may be wrong elsewhere: whoever asks a running gateway what it
// thinks of a broken file must reach it, and may lack the environment that the gateway's secrets come from.
func Find(path string, lookup Env) (Places, error) {
	cfg, _, err := read[Config](path, lookup)
	problems, known := errors.AsType[Errors](err)
	if cfg == nil || err != nil && !known {
		return Places{}, err
	}
	problems = slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return !concernsPlaces(p.Path) })
	places := Places{Admin: cfg.Admin, Audit: cfg.Audit, Keys: cfg.Keys}
	places.Audit.Origin = cfg.AuditOrigin()
	return places, problems.sorted()
}

// concernsPlaces tells problems that put a place in doubt; those of the document as a whole do.
func concernsPlaces(path string) bool {
	section, _, _ := strings.Cut(path, ".")
	return section == "" || section == "admin" || section == "audit"
}

// FindPolicy reads the sections policy and apps of a configuration of which nothing else need be right, or there: those
// who review a policy have neither the gateway's secrets nor its files.
func FindPolicy(path string, lookup Env) (*Config, error) {
	cfg, _, err := read[Config](path, lookup)
	return policyOnly(cfg, err)
}

// ProposedPolicy is FindPolicy of a file that somebody else wrote: none of its references is looked up. In their place
// stand words made of their names, such as env-domain for ${env:DOMAIN}.
func ProposedPolicy(path string) (*Config, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	data, err := readRegular(full, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	cfg, err := parse[Config](path, data, &references{folder: filepath.Dir(full), shut: true})
	if cfg != nil {
		cfg.Policy.Token = ""
	}
	return policyOnly(cfg, err)
}

func policyOnly(cfg *Config, err error) (*Config, error) {
	problems, known := errors.AsType[Errors](err)
	if cfg == nil || err != nil && !known {
		return nil, err
	}
	problems = slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return !concernsPolicy(p) })
	return cfg, problems.sorted()
}

// concernsPolicy reports whether a problem is the policy's: a section that nobody knows may be meant for one of its own.
func concernsPolicy(p Problem) bool {
	section, _, _ := strings.Cut(p.Path, ".")
	section, _, _ = strings.Cut(section, "[")
	return section == "" || section == "policy" || section == "apps" || section == p.Path && strings.HasPrefix(p.Text, "unknown key")
}
