// Package table tries a policy on rows that people write who write no Rego: who, asking what of which app, when and
// from where, is answered how.
//
//	cases:
//	  - name: finance opens payroll after a second factor
//	    who: grace@corp.example
//	    app: payroll
//	    with: { mfa: true }
//	    expect: allow
//
// Whatever is a list is tried with each of its members, so that one row can say what holds for everybody.
package table

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/document"
)

// Table is one file of rows.
type Table struct {
	// Name is the file's.
	Name string `yaml:"-"`
	// Defaults are what rows leave out.
	Defaults Request `yaml:"defaults"`
	// Cases are the rows.
	Cases []Row `yaml:"cases"`
}

// Row is requests and the answer they are to get.
type Row struct {
	// Name says what the row shows. Default: who and what.
	Name    string `yaml:"name"`
	Request `yaml:",inline"`
	// Expect is allow, deny, step_up (allowed after a stronger sign-in) or sign_in (nobody is signed in).
	Expect Answer `yaml:"expect"`
	// Why are codes of reasons or names of rules that the answer must state, such as not_listed or access/2. Default: any.
	Why []string `yaml:"why"`

	At document.Position `yaml:"-"`
}

// Request is who asks for what, in which circumstances.
type Request struct {
	// Who asks: people of the directory by name, id or e-mail address; anonymous; everybody (all of the directory);
	// "group NAME" (all of the directory who are in it); or somebody made up, written as in the directory.
	Who []Who `yaml:"who"`
	// Except are people who are not meant, in the same words.
	Except []Who `yaml:"except"`
	// App is the app's name.
	App []string `yaml:"app"`
	// Method is the HTTP method. Default GET.
	Method []string `yaml:"method"`
	// Path is the path, with a query if one matters. Default /.
	Path []string `yaml:"path"`
	// When is "mon 10:00", "10:00", "2026-11-30 10:00" in the policy's time zone, or a time as RFC 3339 has it. Default:
	// wed 12:00.
	When []When `yaml:"when"`
	// From is a place of the directory, an address, or an address with zone and country. Default: somewhere on the
	// Internet.
	From []Place `yaml:"from"`
	// With is what else the request comes with.
	With With `yaml:"with"`
}

// With is what else a request comes with, in place of what the directory says.
type With struct {
	MFA         *bool             `yaml:"mfa"`
	ACR         string            `yaml:"acr"`
	AMR         []string          `yaml:"amr"`
	SignedIn    Duration          `yaml:"signed_in"` // ago. Default 1m
	Device      *policy.Device    `yaml:"device"`
	Cert        *policy.Cert      `yaml:"cert"`         // the client's certificate. Default: it shows none
	Token       *policy.Token     `yaml:"token"`        // what a program shows in place of a sign-in. Default: none
	CertProblem string            `yaml:"cert_problem"` // or why the one that it shows does not count
	Claims      map[string]any    `yaml:"claims"`
	Headers     map[string]string `yaml:"headers"` // of policy.headers
	ContentType string            `yaml:"content_type"`
	Origin      string            `yaml:"origin"`
	CrossOrigin bool              `yaml:"cross_origin"` // the page that asks is another origin's
	CrossSite   bool              `yaml:"cross_site"`   // another site's page sends what may change something
	Upgrade     string            `yaml:"upgrade"`      // websocket
	Host        string            `yaml:"host"`
	// ShieldScore is what inspection finds. Default: the request is not inspected.
	ShieldScore *int `yaml:"shield_score"`
	// ShieldTimeout means that inspection does not end in time.
	ShieldTimeout bool `yaml:"shield_timeout"`
}

// Who is people by a word, or somebody made up.
type Who struct {
	Word             string `yaml:"-"`
	directory.Person `yaml:",inline"`
}

// UnmarshalText reads the word.
func (w *Who) UnmarshalText(text []byte) error {
	if w.Word = string(text); w.Word == "" {
		return errors.New("nobody is named")
	}
	return nil
}

// Place is where a request comes from: a word, or what is known of it.
type Place struct {
	Word          string `yaml:"-"`
	policy.Client `yaml:",inline"`
}

// UnmarshalText reads an address or a word.
func (p *Place) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil {
		p.Client = policy.Client{IP: addr.String()}
		return nil
	}
	p.Word = string(text)
	return nil
}

// Duration is a span of time such as 15m.
type Duration time.Duration

// UnmarshalText reads a span with its unit.
func (d *Duration) UnmarshalText(text []byte) error {
	span, err := time.ParseDuration(string(text))
	if err != nil || span < 0 {
		return errors.New("want a span of time with its unit, such as 15m")
	}
	*d = Duration(span)
	return nil
}

// Answer is what a policy says, as people speak of it.
type Answer string

// The answers.
const (
	Allow  Answer = "allow"
	Deny   Answer = "deny"
	StepUp Answer = "step_up"
	SignIn Answer = "sign_in"
	// NoAnswer is what no row can expect: the policy failed, took too long, or demands what nobody carries out.
	NoAnswer Answer = "error"
)

// UnmarshalText reads an answer that a row may expect.
func (a *Answer) UnmarshalText(text []byte) error {
	*a = Answer(text)
	if !slices.Contains([]Answer{Allow, Deny, StepUp, SignIn}, *a) {
		return fmt.Errorf("%q is not allow, deny, step_up or sign_in", text)
	}
	return nil
}

var _ = []encoding.TextUnmarshaler{(*Who)(nil), (*Place)(nil), (*Duration)(nil), (*Answer)(nil), (*When)(nil)}

// AnswerOf is a verdict as people speak of it.
func AnswerOf(v *policy.Verdict) Answer {
	switch v.Reason {
	case policy.ReasonAllow:
		return Allow
	case policy.ReasonStepUp:
		return StepUp
	case policy.ReasonUnauthenticated:
		return SignIn
	case policy.ReasonPolicy, policy.ReasonUndefined: // a policy that says nothing says no
		return Deny
	}
	return NoAnswer
}

// Parse reads the text of a file of rows. What is wrong with it is policy.Problems.
func Parse(name string, text []byte) (*Table, error) {
	t := &Table{Name: name}
	if err := document.Read(name, text, t); err != nil {
		return nil, err
	}
	var problems policy.Problems
	for i := range t.Cases {
		if err := t.complete(&t.Cases[i]); err != nil {
			problems = append(problems, t.Cases[i].At.Problem("cases[%d]: %s", i, err))
		}
	}
	if problems != nil {
		return nil, problems
	}
	return t, nil
}

// complete gives a row what it leaves out.
func (t *Table) complete(r *Row) error {
	r.Request = r.Request.or(t.Defaults)
	if len(r.Method) == 0 {
		r.Method = []string{"GET"}
	}
	if len(r.Path) == 0 {
		r.Path = []string{"/"}
	}
	if len(r.When) == 0 {
		r.When = []When{noon}
	}
	if len(r.From) == 0 {
		r.From = []Place{{Client: policy.Client{IP: somewhere}}}
	}
	for i := range r.Path {
		if !strings.HasPrefix(r.Path[i], "/") {
			return fmt.Errorf("path %q: a path begins with /", r.Path[i])
		}
	}
	switch {
	case len(r.Who) == 0:
		return errors.New("who is missing")
	case len(r.App) == 0:
		return errors.New("app is missing")
	case r.Expect == "":
		return errors.New("expect is missing: allow, deny, step_up or sign_in")
	}
	return nil
}

// somewhere is an address on the Internet, RFC 5737 §3.
const somewhere = "203.0.113.1"

// or takes from d what q leaves out.
func (q Request) or(d Request) Request {
	if len(q.Who) == 0 {
		q.Who, q.Except = d.Who, append(q.Except, d.Except...)
	}
	q.App, q.Method, q.Path = given(q.App, d.App), given(q.Method, d.Method), given(q.Path, d.Path)
	q.When, q.From = given(q.When, d.When), given(q.From, d.From)
	q.With = q.With.or(d.With)
	return q
}

func given[T any](list, otherwise []T) []T {
	if len(list) > 0 {
		return list
	}
	return otherwise
}
