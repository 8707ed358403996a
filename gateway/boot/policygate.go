package boot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/gateway/config"
	"sallyport/gateway/route"
	"sallyport/policy"
	"sallyport/policy/bundle"
	"sallyport/policy/review/lint"
	"sallyport/policy/review/suite"
)

// A policy that compiles passes three gates before it comes into force for the first time: no finding of a check is an
// error, its own tests and tables pass, and every app answers everybody in time.

const (
	// testTime bounds a policy's own tests: a reload waits for them.
	testTime = 30 * time.Second
	// testOne bounds one of them.
	testOne = 5 * time.Second
	// maxTold is how many findings or failures an error tells of.
	maxTold = 20
)

// gated is a policy at the gates.
type gated struct {
	engine *policy.Engine
	config *config.Config
	table  *route.Table
	files  bundle.Files // of its bundle; nil when it comes from an archive, which holds no tests
	folder string       // of its configuration, where tables and a directory may lie; empty for an archive
}

// pass holds a policy against the gates.
func (g *gated) pass(ctx context.Context) error {
	found, err := g.suite()
	if err == nil {
		err = g.check(ctx, found)
	}
	if err == nil {
		err = g.test(ctx, found)
	}
	if err == nil {
		err = g.smoke(ctx)
	}
	return err
}

// suite gathers the tests that lie in the bundle and beside the configuration.
func (g *gated) suite() (*suite.Suite, error) {
	found, err := suite.From(g.files, g.config.Policy.Bundle)
	if err != nil || g.folder == "" {
		return found, err
	}
	beside, err := suite.Find("", g.folder)
	if err != nil {
		return nil, err
	}
	found.Tables = append(found.Tables, beside.Tables...)
	if found.Directory == nil {
		found.Directory = beside.Directory
	}
	return found, nil
}

func (g *gated) check(ctx context.Context, found *suite.Suite) error {
	report := lint.Check(ctx, lint.Subject{Sources: g.engine.Bundle().Sources(), Folder: g.config.Policy.Bundle, Apps: policyApps(g.table),
		Directory: found.Directory, Enforced: enforced()})
	var problems policy.Problems
	for _, f := range report.Worst(lint.Error) {
		problems = append(problems, policy.Problem{File: f.File, Line: f.Line, Column: f.Column, Text: f.Rule + ": " + f.Text})
	}
	return told("policy check", problems)
}

func (g *gated) test(ctx context.Context, found *suite.Suite) error {
	if len(found.Tests)+len(found.Tables) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	results, err := found.Run(ctx, g.engine, suite.Options{Timeout: testOne})
	if err != nil {
		return fmt.Errorf("policy test: %w", err)
	}
	return told("policy test", results.Problems())
}

// told is the error of problems, of which the first are told.
func told(what string, problems policy.Problems) error {
	if len(problems) == 0 {
		return nil
	}
	if more := len(problems) - maxTold; more > 0 {
		return fmt.Errorf("%s: %w\nand %d more", what, problems[:maxTold], more)
	}
	return fmt.Errorf("%s: %w", what, problems)
}

// enforced are the obligations that the gateway carries out besides step_up.
func enforced() []string { return []string{policy.RateLimit, policy.Reauthorize, policy.SessionTerm} }

var errSmoke = errors.New("policy smoke test")

// smoke asks about every app on behalf of a stranger, a person with many groups, one with none and a service, with every
// kind of action: each time there must be an answer, and in half the time that a request has.
func (g *gated) smoke(ctx context.Context) error {
	limit := cmp.Or(g.config.Policy.Deadline, policy.DefaultDeadline)
	zone, err := g.engine.Bundle().Zone()
	if err != nil {
		return err
	}
	known := g.engine.Apps()
	for _, app := range g.table.Apps() {
		if !slices.Contains(known, string(app.Name)) { // a kept policy: the app lets nobody in
			continue
		}
		for _, subject := range smokeSubjects() {
			for _, action := range smokeActions() {
				in := smokeInput(app, subject, action)
				in.Context.SetTime(time.Now(), zone)
				if err := smokeOne(ctx, g.engine, in, limit); err != nil {
					return fmt.Errorf("%w: app %s, %s %s by %s: %w", errSmoke, app.Name, action.Method, in.Resource.Path, smokeName(subject), err)
				}
			}
		}
	}
	return nil
}

func smokeOne(ctx context.Context, engine *policy.Engine, in *policy.Input, limit time.Duration) error {
	began := time.Now()
	verdict := engine.Decide(ctx, in)
	took := time.Since(began)
	for range 2 { // a machine may be busy once; a policy is slow each time
		if took < limit/2 {
			break
		}
		took, verdict = timed(ctx, engine, in, limit)
	}
	switch {
	case took >= limit/2:
		return fmt.Errorf("it is too slow: the answer took %v or more, and half of policy.deadline (%v) is what it may take", took.Round(time.Millisecond), limit)
	case verdict.Reason == policy.ReasonUndefined:
		return errors.New("there is no answer: does its decision have a default?")
	case verdict.Err != nil:
		return verdict.Err
	}
	return nil
}

// timed asks past what is remembered, for at most twice the time that a request has.
func timed(ctx context.Context, engine *policy.Engine, in *policy.Input, limit time.Duration) (time.Duration, *policy.Verdict) {
	ctx, cancel := context.WithTimeout(ctx, 2*limit)
	defer cancel()
	began := time.Now()
	verdict := engine.Trace(ctx, in)
	return time.Since(began), verdict
}

// Nobody is called like this, so that what a policy says of people and groups by name is not what answers.
const smokeWord = "sallyport-smoke-test"

const smokeGroups = 100

func smokeSubjects() []policy.Subject {
	many := make([]string, smokeGroups)
	for i := range many {
		many[i] = fmt.Sprintf("%s-%03d", smokeWord, i)
	}
	authn := &policy.Authn{Provider: smokeWord, AMR: []string{"pwd"}, Time: time.Now().UTC().Format(time.RFC3339), AgeS: policy.AgeOf(0)}
	session := &policy.Session{ID: smokeWord, AgeS: policy.AgeOf(0), IdleS: policy.AgeOf(0)}
	person := policy.Subject{Type: policy.TypeUser, ID: smokeWord + "|1", Email: smokeWord + "@invalid", Authn: authn, Session: session}
	member := person
	member.ID, member.EmailVerified, member.Groups = smokeWord+"|2", true, many
	return []policy.Subject{{Type: policy.TypeAnonymous}, person, member, {Type: policy.TypeService, ID: smokeWord + "|3", Authn: authn}}
}

func smokeName(s policy.Subject) string {
	if len(s.Groups) > 0 {
		return fmt.Sprintf("a %s with %d groups", s.Type, len(s.Groups))
	}
	return s.Type
}

func smokeActions() []policy.Action {
	return []policy.Action{
		{Name: policy.ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		{Name: policy.ActionWrite, Method: "POST", Protocol: "HTTP/2.0"},
		{Name: policy.ActionDelete, Method: "DELETE", Protocol: "HTTP/2.0"},
		{Name: policy.ActionConnect, Method: "GET", Protocol: "HTTP/1.1", Upgrade: "websocket"},
	}
}

func smokeInput(app *route.App, subject policy.Subject, action policy.Action) *policy.Input {
	known, path := app.Policy(), "/"
	if len(subject.Groups) > 0 { // beside many groups, a long path
		path += strings.TrimSuffix(strings.Repeat(smokeWord+"/", 20), "/")
	}
	in := &policy.Input{
		Subject: subject, Action: action,
		Resource: policy.Resource{Type: policy.TypeApp, ID: known.Name, Labels: known.Labels, Sensitivity: known.Sensitivity, Owner: known.Owner,
			Host: app.Host, Path: path, Segments: strings.Split(strings.Trim(path, "/"), "/")},
		Context: policy.Context{Client: policy.Client{IP: "192.0.2.1"}, TLS: &policy.TLS{Version: "1.3", SNI: app.Host, ALPN: "h2"},
			Request: policy.Request{ID: smokeWord, FetchSite: "none", CrossSiteUnsafe: new(false)}},
	}
	if path == "/" {
		in.Resource.Segments = []string{}
	}
	return in
}

// folderOf is where a configuration lies.
func folderOf(sources config.Sources) string {
	if len(sources.Files) == 0 {
		return ""
	}
	return filepath.Dir(sources.Files[0])
}
