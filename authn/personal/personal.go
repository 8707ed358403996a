// Package personal keeps the tokens that people make for programs of their own: scripts, build jobs, command lines.
//
// A personal token stands for its owner, narrowed to the apps and methods that were chosen when it was made. It is shown
// once and stored as a hash; it ends by its own date, when its owner or an operator revokes it, and when the owner's
// account has not been confirmed by their identity provider for too long.
package personal

import (
	"errors"
	"fmt"
	"time"
)

// Config says whether people may make personal tokens, and for how long.
type Config struct {
	// Enabled lets people make personal tokens in the portal. Default false: none are made, and none are accepted.
	Enabled bool `yaml:"enabled"`
	// MaxLifetime is the longest that a token may be made for. Default 90d.
	MaxLifetime time.Duration `yaml:"max_lifetime" default:"90d"`
	// Confirm is how long ago the owner's provider must have spoken of them, at a sign-in or a recheck; until they sign in
	// again the token rests. Default 14d.
	Confirm time.Duration `yaml:"confirm" default:"14d"`
	// MaxPerPerson is how many living tokens one person may have. Default 20.
	MaxPerPerson int `yaml:"max_per_person" default:"20"`
}

// Check refuses limits that no one can mean.
func (c *Config) Check() error {
	if c.MaxLifetime < time.Hour || c.MaxLifetime > 366*24*time.Hour {
		return fmt.Errorf("max_lifetime: %v: want 1h to 366d", c.MaxLifetime)
	}
	if c.Confirm < time.Hour {
		return fmt.Errorf("confirm: %v is shorter than an hour", c.Confirm)
	}
	if c.MaxPerPerson < 1 {
		return errors.New("max_per_person: want at least 1")
	}
	return nil
}
