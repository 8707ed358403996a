package boot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/gateway/shadow"
	"sallyport/policy"
)

// shadowing tries candidate policies on live traffic, one at a time. A trial lasts over reloads; a restart ends it.
type shadowing struct {
	changing sync.Mutex                // held while a trial starts, ends or is promoted
	tried    atomic.Pointer[candidate] // nil: none is
}

// candidate is a policy that is tried.
type candidate struct {
	trial     *shadow.Trial
	digest    string
	name, why string
	who       string
	end       func() // ends the trial, and waits for what it still compares
}

// shadows is shadowing as operators see it.
type shadows struct{ *assembly }

var _ admin.Shadowing = shadows{}

var (
	errShadowRunning = errors.New("a candidate policy is being tried already: stop it first (sallyport policy shadow stop)")
	errNoShadow      = errors.New("no candidate policy is being tried")
)

// Shadow describes the candidate that is tried.
func (s shadows) Shadow() admin.ShadowStatus { return s.shadowing.tried.Load().status() }

func (c *candidate) status() admin.ShadowStatus {
	if c == nil {
		return admin.ShadowStatus{}
	}
	report := c.trial.Report()
	return admin.ShadowStatus{Running: true, Name: c.name, Why: c.why, Who: c.who, Report: &report}
}

// StartShadow begins to try a candidate.
func (s shadows) StartShadow(ctx context.Context, by *audit.Actor, what admin.ShadowStart) error {
	s.shadowing.changing.Lock()
	defer s.shadowing.changing.Unlock()
	if s.shadowing.tried.Load() != nil {
		return errShadowRunning
	}
	engine, err := s.candidateEngine(ctx, what.Archive)
	if err != nil {
		return fmt.Errorf("the candidate policy: %w", err)
	}
	active := s.server.Snapshot().Policy
	if err := s.control(ctx, "shadow_started", by, map[string]any{"candidate": engine.Digest(), "revision": engine.Revision(), "active": active.Digest(),
		"name": what.Name, "why": what.Why}); err != nil {
		return err
	}
	s.shadowing.tried.Store(s.try(engine, &candidate{digest: engine.Digest(), name: what.Name, why: what.Why, who: strings.TrimSpace(by.ID + " " + by.Name)}))
	return nil
}

// candidateEngine compiles an archive under the running configuration's limits, keeps it, so that it can be named by its
// digest, and analyses its apps: a request would not wait for that, but its comparison.
func (s shadows) candidateEngine(ctx context.Context, archive []byte) (*policy.Engine, error) {
	bundle, err := policy.OpenArchive(archive)
	if err != nil {
		return nil, err
	}
	engine, err := policy.Compile(ctx, bundle.Under(s.current().config.Policy))
	if err != nil {
		return nil, err
	}
	for _, app := range engine.Apps() {
		engine.Projection(ctx, app) // its error: every request of the app is evaluated
	}
	return engine, s.audit.KeepPolicy(bundle.Digest, archive)
}

// try starts a trial.
func (s shadows) try(engine *policy.Engine, c *candidate) *candidate {
	c.trial = shadow.New(shadow.Config{
		Candidate: engine,
		Active:    func() *policy.Engine { return s.server.Snapshot().Policy },
		Record:    s.recordTrial,
		Log:       s.opts.Log,
	})
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	s.group.Go(func() error {
		defer close(ended)
		c.trial.Run(ctx)
		return nil
	})
	c.end = func() {
		s.server.Try(nil)
		cancel()
		<-ended
	}
	s.server.Try(c.trial)
	s.opts.Log.Info("a candidate policy is tried", "candidate", c.digest, "name", c.name, "by", c.who, "why", c.why)
	return c
}

func (s shadows) recordTrial(ctx context.Context, code string, detail any) error {
	return s.control(ctx, code, nil, detail)
}

// StopShadow ends a trial.
func (s shadows) StopShadow(ctx context.Context, by *audit.Actor) (admin.ShadowStatus, error) {
	s.shadowing.changing.Lock()
	defer s.shadowing.changing.Unlock()
	c := s.shadowing.tried.Load()
	if c == nil {
		return admin.ShadowStatus{}, errNoShadow
	}
	s.endLocked(c)
	status := c.status()
	status.Running = false
	return status, s.recordEnd(ctx, by, status.Report, false)
}

// PromoteShadow puts the candidate in force. What it came to until then is what the record says.
func (s shadows) PromoteShadow(ctx context.Context, by *audit.Actor, what admin.ShadowPromote) error {
	s.shadowing.changing.Lock()
	defer s.shadowing.changing.Unlock()
	c := s.shadowing.tried.Load()
	if c == nil {
		return errNoShadow
	}
	report := c.trial.Report()
	if err := doubts(&report); err != nil && !what.Force {
		return fmt.Errorf("the candidate policy is not promoted: %w; --force promotes it all the same", err)
	}
	if err := s.usePolicy(ctx, c.digest, what.Why, by); err != nil {
		return err
	}
	s.endLocked(c)
	return s.recordEnd(ctx, by, &report, true)
}

func (s shadows) endLocked(c *candidate) {
	c.end()
	s.shadowing.tried.Store(nil)
}

// recordEnd puts on record what a trial came to.
func (s shadows) recordEnd(ctx context.Context, by *audit.Actor, report *shadow.Report, promoted bool) error {
	return s.control(ctx, "shadow_stopped", by, struct {
		shadow.Summary
		Promoted bool `json:"promoted"`
	}{report.Summary(), promoted})
}

// doubts are why a candidate should not come into force.
func doubts(r *shadow.Report) error {
	switch {
	case r.Compared == 0:
		return errors.New("nothing was compared with the policy in force yet")
	case !r.Clean:
		return fmt.Errorf("access would have differed, last at %s (sallyport policy shadow status)", r.CleanSince.Format("15:04:05"))
	}
	return nil
}
