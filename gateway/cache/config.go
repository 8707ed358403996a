package cache

import (
	"errors"
	"fmt"
	"strings"

	"sallyport/gateway/units"
)

// Config is the memory that all apps' caches share.
type Config struct {
	// Memory is how much memory stored answers may take in all, headers, keys and bookkeeping included. A quarter of it
	// may be used on top by answers that are just arriving. Default 256MiB; 0 means that no app has a cache.
	Memory units.Bytes `yaml:"memory" default:"256MiB"`
	// MaxEntry is the largest body that is stored; larger answers pass through. At most 1GiB. Default 8MiB.
	MaxEntry units.Bytes `yaml:"max_entry" default:"8MiB"`
}

// maxMaxEntry keeps the sizes of entries within what the memory tier counts with.
const maxMaxEntry = 1 << 30

// Check reports sizes that make no sense together.
func (c *Config) Check() error {
	if c.Memory == 0 {
		return nil
	}
	if c.MaxEntry > maxMaxEntry {
		return errors.New("max_entry must not be larger than 1GiB")
	}
	if c.MaxEntry > c.Memory {
		return fmt.Errorf("max_entry (%s) must not be larger than memory (%s)", c.MaxEntry, c.Memory)
	}
	return nil
}

// Rules say for one app what is stored, and who shares it. Nothing is stored unless it is enabled, and nothing is shared
// between people unless the operator vouches for it.
type Rules struct {
	// Enabled lets answers be stored, as far as the app's Cache-Control and the like allow. Default false.
	Enabled bool `yaml:"enabled"`
	// Shared vouches that answers which say public or s-maxage carry nobody's data, so that everyone who may open the app
	// can share them, as long as the request that fetched them carried neither the app's cookies nor Authorization.
	// Default false: every person has entries of their own.
	Shared bool `yaml:"shared"`
	// IdentityFree declares that answers depend on nobody: the app is told no identity and gets neither cookies nor
	// Authorization, and all people share the entries. Default false.
	IdentityFree bool `yaml:"identity_free"`
	// StoreSetCookie stores answers that set cookies, cookies included, and gives them to everyone who shares the entry.
	// Default false: such answers are not stored.
	StoreSetCookie bool `yaml:"store_set_cookie"`
	// Paths are parts of the app with rules of their own; the longest match wins. Default: none.
	Paths []PathRule `yaml:"paths"`
}

// PathRule is a part of an app with rules of its own. What it leaves out is as the app's.
type PathRule struct {
	// Path is the part it holds for, as the app sees it, such as /assets/: that path and all below it. Without a slash
	// at its end it covers the path itself too, never one that merely begins with it. Required.
	Path string `yaml:"path" config:"required"`
	// Enabled is as for the app. Default: as the app's.
	Enabled *bool `yaml:"enabled"`
	// Shared is as for the app. Default: as the app's.
	Shared *bool `yaml:"shared"`
	// IdentityFree is as for the app. Default: as the app's.
	IdentityFree *bool `yaml:"identity_free"`
	// StoreSetCookie is as for the app. Default: as the app's.
	StoreSetCookie *bool `yaml:"store_set_cookie"`
}

// Rule is what holds for one request.
type Rule struct{ Enabled, Shared, IdentityFree, StoreSetCookie bool }

// For returns the rule for a path: canonical, decoded, as the app sees it.
func (r *Rules) For(path string) Rule {
	rule := Rule{Enabled: r.Enabled, Shared: r.Shared, IdentityFree: r.IdentityFree, StoreSetCookie: r.StoreSetCookie}
	best := -1
	for i := range r.Paths {
		if r.Paths[i].covers(path) && (best < 0 || len(r.Paths[i].Path) > len(r.Paths[best].Path)) {
			best = i
		}
	}
	if best >= 0 {
		r.Paths[best].refine(&rule)
	}
	return rule
}

func (p *PathRule) covers(path string) bool {
	rest, ok := strings.CutPrefix(path, p.Path)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(p.Path, "/"))
}

func (p *PathRule) refine(rule *Rule) {
	set := func(dst *bool, src *bool) {
		if src != nil {
			*dst = *src
		}
	}
	set(&rule.Enabled, p.Enabled)
	set(&rule.Shared, p.Shared)
	set(&rule.IdentityFree, p.IdentityFree)
	set(&rule.StoreSetCookie, p.StoreSetCookie)
}

// Check reports paths that can never match, or that match twice.
func (r *Rules) Check() error {
	var errs []error
	seen := map[string]bool{}
	for _, p := range r.Paths {
		if !strings.HasPrefix(p.Path, "/") || strings.Contains(p.Path, "//") || strings.ContainsAny(p.Path, "?#") {
			errs = append(errs, fmt.Errorf("cache: path %q must start with a slash and be a plain path", p.Path))
		}
		if seen[p.Path] {
			errs = append(errs, fmt.Errorf("cache: path %q is listed twice", p.Path))
		}
		seen[p.Path] = true
	}
	return errors.Join(errs...)
}
