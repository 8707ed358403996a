package corpus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/replay"
)

// Options say what goes into a corpus.
type Options struct {
	Policy  *policy.Engine
	Source  replay.Source
	Also    []string // input fields that are held besides those that the policy reads, for changes that will read them
	Key     Key
	Created time.Time
	Program string // who writes it, for people

	// Sign returns the signed note on a SHA-256; nil leaves the corpus unsigned.
	Sign func(sum [32]byte) ([]byte, error)
}

// MaxEntries bounds a corpus. A policy that reads the time of each request makes as many entries as requests.
const MaxEntries = 1_000_000

// Why requests are left out.
const (
	leftChanged  = "redaction would change the answer"
	leftNotRead  = "the recorded input cannot be read by this version"
	leftOtherApp = "the app is not in the policy"
)

// Write writes the corpus of what the source has. The header says what was left out.
func Write(ctx context.Context, w io.Writer, o Options) (*Header, error) {
	m := &maker{Options: o, apps: make(map[string]*appPlan), entries: make(map[string]*Entry), seen: make(map[string]*Entry), header: &Header{
		Corpus: Version, Created: o.Created, Program: o.Program, Policy: o.Policy.Digest(), Revision: o.Policy.Revision(),
		LeftOut: make(map[string]int64), Held: make(map[string][]string), Known: make(map[string][]string),
	}}
	if err := m.gather(ctx); err != nil {
		return nil, err
	}
	body, err := m.body()
	if err != nil {
		return nil, err
	}
	c := &Corpus{body: body}
	if o.Sign != nil {
		if c.note, err = o.Sign(c.Sum()); err != nil {
			return nil, fmt.Errorf("signing the corpus: %w", err)
		}
	}
	for _, part := range [][]byte{body, {'\n'}, c.note} {
		if _, err := w.Write(part); err != nil {
			return nil, fmt.Errorf("writing the corpus: %w", err)
		}
	}
	return m.header, nil
}

// maker makes one corpus.
type maker struct {
	Options
	header  *Header
	apps    map[string]*appPlan
	seen    map[string]*Entry // by projection; nil: left out
	left    map[string]string // by projection, why it was left out
	entries map[string]*Entry // by app and redacted input
	key     []byte
}

// appPlan is what is kept of an app's requests.
type appPlan struct {
	projection *policy.Projection
	redactor   *redactor
	unknown    bool
}

func (m *maker) gather(ctx context.Context) error {
	m.left = make(map[string]string)
	for batch, err := range m.Source {
		if err != nil {
			return err
		}
		for r := range batch {
			why, err := m.take(ctx, &r)
			if err != nil {
				return err
			}
			if why != "" {
				m.header.LeftOut[why] += max(1, r.Weight)
			}
		}
	}
	return nil
}

// take takes a record; it says why it is left out, or "".
func (m *maker) take(ctx context.Context, r *replay.Record) (string, error) {
	if r.Unusable != "" {
		return r.Unusable, nil
	}
	p, err := m.plan(ctx, r.App)
	if err != nil || p.unknown {
		return leftOtherApp, err
	}
	input := r.Input
	if r.Changed != nil {
		in, err := policy.ParseChanged(r.Input, r.Changed)
		if err != nil {
			return leftNotRead, nil
		}
		input = in.AppendJSON(nil)
	}
	m.key = append(append(m.key[:0], r.App...), 0)
	if m.key, err = p.projection.AppendRecorded(m.key, input); err != nil {
		return leftNotRead, nil
	}
	if why, left := m.left[string(m.key)]; left {
		return why, nil
	}
	e := m.seen[string(m.key)]
	if e == nil {
		var why string
		if e, why, err = m.entry(ctx, r.App, p, input); err != nil {
			return "", err
		}
		if e == nil {
			m.left[string(m.key)] = why
			return why, nil
		}
		m.seen[string(m.key)] = e
	}
	m.count(e, r)
	return "", nil
}

func (m *maker) count(e *Entry, r *replay.Record) {
	n, day := max(1, r.Weight), r.Time.UTC().Truncate(24*time.Hour)
	e.Requests += n
	m.header.Requests += n
	if day.After(e.Last) {
		e.Last = day
	}
	if m.header.From.IsZero() || day.Before(m.header.From) {
		m.header.From = day
	}
	if day.After(m.header.To) {
		m.header.To = day
	}
}

func (m *maker) plan(ctx context.Context, app string) (*appPlan, error) {
	if p := m.apps[app]; p != nil {
		return p, nil
	}
	p := new(appPlan)
	m.apps[app] = p
	if _, known := m.Policy.App(app); !known {
		p.unknown = true
		return p, nil
	}
	var err error
	if p.projection, err = m.Policy.Projection(ctx, app); err != nil {
		p.projection = policy.WholeInput()
	}
	also, err := policy.FieldsNamed(m.Also...)
	if err != nil {
		return nil, err
	}
	p.projection = p.projection.With(also)
	m.header.Held[app] = p.projection.Fields()
	p.redactor, m.header.Known[app], err = newRedactor(ctx, m.Key, m.Policy, app)
	return p, err
}

// entry redacts a kind of request, unless that would change the answer.
func (m *maker) entry(ctx context.Context, app string, p *appPlan, input []byte) (e *Entry, why string, err error) {
	in, err := policy.ParseInput(input)
	if err != nil || in.Resource.ID != app {
		return nil, leftNotRead, nil
	}
	kept, err := keep(p.redactor.redact(in).AppendJSON(nil), p.projection.Fields())
	if err != nil {
		return nil, "", err
	}
	redacted, err := whole(kept)
	if err != nil {
		return nil, "", err
	}
	was, is := m.Policy.Answer(ctx, in), m.Policy.Answer(ctx, redacted)
	if review.Compare(was, is) != review.Unchanged {
		return nil, leftChanged, nil
	}
	name := app + "\x00" + string(kept)
	if e = m.entries[name]; e != nil {
		return e, "", nil
	}
	if len(m.entries) == MaxEntries {
		return nil, "", fmt.Errorf("more than %d distinct requests: app %s reads %s", MaxEntries, app, strings.Join(p.projection.Fields(), ", "))
	}
	e = &Entry{App: app, Input: kept, Allow: is.Allow, Reason: is.Reason, Decision: is.JSON}
	m.entries[name] = e
	return e, "", nil
}

// body is the header and the entries.
func (m *maker) body() ([]byte, error) {
	var entries []*Entry
	for _, e := range m.entries {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *Entry) int {
		return cmp.Or(strings.Compare(a.App, b.App), cmp.Compare(b.Requests, a.Requests), bytes.Compare(a.Input, b.Input))
	})
	m.header.Entries = len(entries)
	zone, err := timezone(m.Policy)
	if err != nil {
		return nil, err
	}
	m.header.Timezone = zone
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	if err := out.Encode(m.header); err != nil {
		return nil, fmt.Errorf("writing the corpus: %w", err)
	}
	for _, e := range entries {
		if err := out.Encode(e); err != nil {
			return nil, fmt.Errorf("writing the corpus: %w", err)
		}
	}
	return text.Bytes(), nil
}

// timezone is the zone in which a policy's times of day are meant.
func timezone(e *policy.Engine) (string, error) {
	var data struct {
		Timezone string `json:"timezone"`
	}
	if err := json.Unmarshal(e.Bundle().Data(), &data); err != nil {
		return "", fmt.Errorf("reading the data of policy %s: %w", e.Digest(), err)
	}
	return data.Timezone, nil
}
