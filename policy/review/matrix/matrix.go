// Package matrix finds what a change of policy changes by asking both policies: for everybody in a directory, or for
// people made up from what the policies name, about every method, path and circumstance that either policy can tell
// from the next.
//
// Each app has axes: who, method, path, time, address, sign-in, and what else its own packages read. Every constant in
// either policy is a value of the axes it could be compared on, together with its neighbours. Requests that neither
// policy can tell apart are asked about once, and the answers stand for all of them; a random sample of the others is
// asked about as well, and an answer that differs from the one that was to stand for it makes the result incomplete.
//
// What it sees in part only: of conditions that hold one part of the input against another, those on paths that name the
// person; of regular expressions, of texts in any case, and of numbers and lengths in paths, texts on both sides of each
// constant. A difference that shows on such a text only makes the result incomplete.
package matrix

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/directory"
)

// Config is what to compare.
type Config struct {
	From, To *policy.Engine

	// People are those asked about, and strangers besides. Nil: one person for each group, pair of groups, address and
	// domain that the policies name, and one whom they do not.
	People []directory.Person

	// Now dates the week that is asked about, and what people signed in before. Default: time.Now.
	Now time.Time

	// Budget bounds the questions about one app. An app that needs more is asked about in part, which makes the result
	// incomplete. Default 1,000,000.
	Budget int

	// Workers is how many apps are looked at at a time. Default 2.
	Workers int

	// Sample is how many further requests for each app check that the answers stand for others. Default 200.
	Sample int

	// Seed begins the sample's random numbers.
	Seed uint64

	// Progress, unless nil, hears of each app that is done.
	Progress func(done, of int)
}

// Defaults of Config.
const (
	defaultBudget  = 1_000_000
	defaultWorkers = 2
	defaultSample  = 200
)

// Result is what was found.
type Result struct {
	Apps        []App
	Findings    []Finding
	Incomplete  []string // why differences may be missing; empty when none can be, but for what the package comment says
	Evaluations int64    // of either policy
	People      int      // strangers included
}

// App is an app of either policy.
type App struct {
	Name     string
	In       [2]bool        // whether the old and the new policy have it
	Facts    [2]policy.App  // what they say of it
	Same     bool           // everything that its decisions depend on is the same in both
	People   []string       // who was asked about, where they were made up for this app
	Methods  []string       // those told apart; every other method is "*"
	Paths    []string       // the classes of paths: the first pattern that a path matches is its class
	Networks []netipPattern // the classes of addresses: the longest prefix that contains an address is its class
	ACR      []string       // the classes of assurance; every other one is "*"
}

type netipPattern = string

// Finding is a set of requests whose answer changed in one way: all combinations of its people, methods, paths and
// circumstances.
type Finding struct {
	review.Difference
	App     string
	Methods []string // "*" is every method that the app's Methods do not name; nil: any
	Paths   []string // patterns of the app's Paths; nil: any
	When    When
	Usual   []string // the people whom it concerns when they sign in as the directory says they usually do
}

// When are circumstances. What is nil does not count.
type When struct {
	Hours    []Hours             `json:"hours,omitempty"`    // of the week, in the old policy's timezone
	At       []string            `json:"at,omitempty"`       // moments, RFC 3339, where a policy names some
	Networks []string            `json:"networks,omitempty"` // prefixes; the longest of the app's that contains an address counts, "*" is an address in none
	MFA      *bool               `json:"mfa,omitempty"`
	ACR      []string            `json:"acr,omitempty"`   // "" is none, "*" one that neither policy names
	Age      []Ages              `json:"age_s,omitempty"` // seconds since the person proved themselves
	Other    map[string][]string `json:"other,omitempty"` // other places under input, and their values
}

// Hours are spans of the week, as in access rules.
type Hours struct {
	Days []string `json:"days"`
	From string   `json:"from"`
	To   string   `json:"to"`
}

// Ages are from From on, and below To; 0 for no bound.
type Ages struct {
	From int64 `json:"from"`
	To   int64 `json:"to,omitzero"`
}

// Run compares two policies.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	cfg.Budget, cfg.Workers = cmp.Or(cfg.Budget, defaultBudget), cmp.Or(cfg.Workers, defaultWorkers)
	cfg.Sample = cmp.Or(cfg.Sample, defaultSample)
	if cfg.Now.IsZero() {
		cfg.Now = time.Now()
	}
	names := slices.Concat(cfg.From.Apps(), cfg.To.Apps())
	slices.Sort(names)
	names = slices.Compact(names)
	r := &Result{Apps: make([]App, len(names)), People: len(cfg.People) + 1}
	parts, errs := make([]*survey, len(names)), make([]error, len(names))
	var next, done atomic.Int64
	var workers sync.WaitGroup
	for range min(cfg.Workers, len(names)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(names) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				parts[i], errs[i] = lookAt(ctx, &cfg, names[i])
				if n := done.Add(1); cfg.Progress != nil {
					cfg.Progress(int(n), len(names))
				}
			}
		})
	}
	workers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	for i, s := range parts {
		if errs[i] != nil {
			return nil, fmt.Errorf("app %s: %w", names[i], errs[i])
		}
		r.Apps[i] = s.app
		r.Findings = append(r.Findings, s.findings...)
		r.Incomplete = append(r.Incomplete, s.incomplete...)
		r.Evaluations += s.evaluations
	}
	return r, nil
}

// lookAt compares the policies on one app.
func lookAt(ctx context.Context, cfg *Config, name string) (*survey, error) {
	s, err := newSurvey(ctx, cfg, name)
	if err != nil || s.app.Same {
		return s, err
	}
	s.axes()
	if err := s.ask(); err != nil {
		return nil, err
	}
	s.collect()
	s.tellSamples()
	s.check(rand.New(rand.NewPCG(cfg.Seed, uint64(len(name)))))
	return s, nil
}
