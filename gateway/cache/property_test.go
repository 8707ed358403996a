package cache

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// made is what the model knows of one answer of the app: each time that the app gave or confirmed it. Any of them may be
// why somebody gets it.
type made struct {
	url    string
	grants []*grant
}

// grant is one time that the app gave or confirmed an answer.
type grant struct {
	person      string
	told        byte
	credentials bool
	control     string // Cache-Control
	varies      bool   // by who asks
	foo         string // the request's Foo, if the answer varies by it
	at          time.Time
	changes     int // of the URL, before the app was asked
	delivered   bool
	silent      bool // a confirmation that did not say how it may be used
}

// model is what people may get, in a few lines that share nothing with the cache.
type model struct {
	*bed
	store   *Memory
	rules   map[string]Rule
	answers []*made
	changes map[string]int // of URLs
}

const modelBytes = 64 << 10

func newModel(t *testing.T, shares func(sharing) bool) *model {
	b := &bed{t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	m := &model{bed: b, store: NewMemory(modelBytes), rules: map[string]Rule{}, changes: map[string]int{}}
	b.cache = New(m.store, Options{Now: b.clock, MaxEntry: 4 << 10})
	b.cache.shares = shares
	b.leg = b.cache.For(roundTripper(b.answer))
	return m
}

var (
	people   = rapid.SampledFrom([]string{"ann", "bob", "cid", ""})
	urls     = rapid.SampledFrom([]string{"https://a/own", "https://a/shared", "https://a/shared", "https://a/free", "https://b/shared"})
	usual    = rapid.SampledFrom([][]string{nil, {"public", "max-age=30"}, {"max-age=30"}, {"s-maxage=30"}})
	anything = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"public", "private", "no-store", "no-cache", "must-revalidate",
		"max-age=30", "s-maxage=30", "stale-while-revalidate=30", "stale-if-error=30", "immutable"}), 0, 4, rapid.ID[string])
	controls = rapid.OneOf(usual, anything)
	asks     = rapid.SampledFrom([]string{"", "", "", "no-cache", "max-age=10", "max-stale=20", "min-fresh=10", "only-if-cached"})
)

var modelRules = map[string]Rule{
	"https://a/own":    {Enabled: true},
	"https://a/shared": {Enabled: true, Shared: true},
	"https://a/free":   {Enabled: true, IdentityFree: true},
	"https://b/shared": {Enabled: true, Shared: true},
}

// step lets one random person do one random thing. It returns what went wrong.
func (m *model) step(t *rapid.T) error {
	url := urls.Draw(t, "url")
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		m.wait(time.Duration(rapid.IntRange(1, 45).Draw(t, "seconds")) * time.Second)
		return nil
	case 1:
		m.says(200, "")
		m.changes[url]++
		m.send(&Viewer{App: "wiki", URL: url, Person: people.Draw(t, "who"), Rule: modelRules[url]}, "POST")
		return nil
	case 2:
		m.cache.Purge(Pattern{Prefix: url})
		m.changes[url]++
		return nil
	}
	return m.visit(t, url)
}

func (m *model) visit(t *rapid.T, url string) error {
	v := &Viewer{App: "wiki", URL: url, Person: people.Draw(t, "who"), Told: [32]byte{byte(rapid.IntRange(0, 1).Draw(t, "told"))},
		Credentials: rapid.Bool().Draw(t, "credentials") && !modelRules[url].IdentityFree, Rule: modelRules[url], IdentityHeaders: isIdentity}
	control, varies, down := strings.Join(controls.Draw(t, "says"), ", "), rapid.Bool().Draw(t, "varies"), rapid.IntRange(0, 4).Draw(t, "down") == 0
	validator, confirms := rapid.Bool().Draw(t, "validator"), rapid.Bool().Draw(t, "confirms")
	changes := m.changes[url]
	m.does(func(r *http.Request) (*http.Response, error) {
		if down {
			return nil, errDown
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		g := &grant{person: v.Person, told: v.Told[0], credentials: v.Credentials, control: control,
			varies: varies, foo: r.Header.Get("Foo"), at: m.now, changes: changes}
		id, confirmed := m.confirms(r, confirms)
		if confirmed {
			g.inherit(m.answers[id])
			m.answers[id].grants = append(m.answers[id].grants, g)
		} else {
			id = len(m.answers)
			m.answers = append(m.answers, &made{url, []*grant{g}})
		}
		fields := []string{"Vary: Foo", "Date: " + formatDate(m.now)}
		if varies {
			fields = append(fields, "Vary: X-Sallyport-User")
		}
		if control != "" {
			fields = append(fields, "Cache-Control: "+control)
		}
		if validator {
			fields = append(fields, fmt.Sprintf("Etag: %q", strconv.Itoa(id)))
		}
		if confirmed {
			return m.response(r, 304, "", fields...), nil
		}
		return m.response(r, 200, strconv.Itoa(id)+strings.Repeat(" ", id%3000), fields...), nil
	})
	fields := []string{"Foo: " + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "foo"), "X-Sallyport-User: " + v.Person}
	ask := asks.Draw(t, "asks")
	if ask != "" {
		fields = append(fields, "Cache-Control: "+ask)
	}
	a := m.send(v, "GET", fields...)
	m.settle()
	return m.check(v, fields[0][len("Foo: "):], ask, down, a)
}

// settle waits for refreshes, so that the model knows what is stored.
func (m *model) settle() {
	eventually(m.t, "refreshes end", func() bool { return m.flying() == 0 })
}

// check holds what somebody got against what they may get.
func (m *model) check(v *Viewer, foo, ask string, down bool, a answer) error {
	for app, h := range m.store.Held() {
		if h.Bytes > modelBytes || h.Bytes < 0 {
			return fmt.Errorf("%s holds %d bytes", app, h.Bytes)
		}
	}
	if a.err != nil || a.StatusCode == 504 {
		return nil
	}
	id, err := strconv.Atoi(strings.TrimSpace(a.body))
	if err != nil || len(a.body) != len(strconv.Itoa(id))+id%3000 {
		return fmt.Errorf("not an answer of the app: %d bytes, %v", len(a.body), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answers[id].url != v.URL {
		return fmt.Errorf("%s got the answer for %s", v.URL, m.answers[id].url)
	}
	for _, g := range m.answers[id].grants {
		if err = m.justifies(g, v, foo, ask, down, a); err == nil {
			return nil
		}
	}
	return err
}

// confirms reports which answer the app confirms, if it likes.
func (m *model) confirms(r *http.Request, likes bool) (id int, confirmed bool) {
	id, err := strconv.Atoi(strings.Trim(r.Header.Get("If-None-Match"), `"`))
	return id, err == nil && likes
}

// inherit takes over what a confirmation did not say anew.
func (g *grant) inherit(of *made) {
	if g.control == "" {
		g.control = of.grants[len(of.grants)-1].control
		g.silent = true
	}
}

// justifies says why one time that the app gave an answer is no reason to give it to somebody now.
func (m *model) justifies(from *grant, v *Viewer, foo, ask string, down bool, a answer) error {
	first := !from.delivered
	from.delivered = true
	same := from.person == v.Person && from.told == v.Told[0] && (v.Person != "" || !from.credentials && !v.Credentials)
	has := func(directive string) bool { return strings.Contains(from.control, directive) }
	age := m.now.Sub(from.at)
	switch {
	case first && from.person == v.Person && from.told == v.Told[0] && age == 0 && (a.result == Miss || a.result == Revalidated):
		return nil // the app's own words
	case has("private"), has("no-store"):
		return fmt.Errorf("%q was given again", from.control)
	case from.foo != foo:
		return fmt.Errorf("another variant")
	case from.changes != m.changes[v.URL]:
		return fmt.Errorf("an answer from before a change")
	case has("no-cache"):
		return fmt.Errorf("%q was given without asking", from.control)
	}
	if !same {
		if err := mayShareModel(modelRules[v.URL], from, v); err != nil {
			return err
		}
	}
	return mayBeThatOld(from, age, ask, down)
}

// mayShareModel says whether one person's answer may be another's.
func mayShareModel(rule Rule, from *grant, v *Viewer) error {
	switch {
	case rule.IdentityFree:
		return nil
	case !rule.Shared:
		return fmt.Errorf("%s got %s's answer where nothing is shared", v.Person, from.person)
	case !strings.Contains(from.control, "public") && !strings.Contains(from.control, "s-maxage"):
		return fmt.Errorf("%s got %s's answer, which said %q", v.Person, from.person, from.control)
	case v.Credentials:
		return fmt.Errorf("%s came with credentials and got %s's answer", v.Person, from.person)
	case from.silent:
		return fmt.Errorf("%s got what was confirmed to %s alone", v.Person, from.person)
	case from.credentials:
		return fmt.Errorf("%s got the answer to %s's credentials", v.Person, from.person)
	case from.varies:
		return fmt.Errorf("%s got the answer that varies by who asks, which was %s", v.Person, from.person)
	}
	return nil
}

// mayBeThatOld says whether an answer of this age may be given without asking the app.
func mayBeThatOld(from *grant, age time.Duration, ask string, down bool) error {
	has := func(directive string) bool { return strings.Contains(from.control, directive) }
	limit := time.Duration(0)
	if has("max-age=30") || has("s-maxage=30") {
		limit = 30 * time.Second
	}
	if ask == "min-fresh=10" {
		limit -= 10 * time.Second
	}
	stale := time.Duration(0)
	if !has("s-maxage") && !has("must-revalidate") {
		if has("stale-while-revalidate") && ask != "min-fresh=10" {
			stale = 30 * time.Second
		}
		if has("stale-if-error") && down {
			stale, limit = 30*time.Second, max(limit, 30*time.Second)
		}
		if ask == "max-stale=20" {
			stale = max(stale, 20*time.Second)
		}
	}
	if age > limit+stale {
		return fmt.Errorf("%q was given at the age of %v to %q", from.control, age, ask)
	}
	if ask == "max-age=10" && age > 10*time.Second && !down {
		return fmt.Errorf("at the age of %v to %q", age, ask)
	}
	return nil
}

// TestNobodyGetsAnothersAnswer drives random people, rules, directives and times against the model: never a byte of one
// person's answer to another, never a stale answer beyond what was allowed, never more bytes than there may be.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(t, sharing.allowed)
		defer m.cache.Close()
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if err := m.step(rt); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// TestModelNoticesAnyMissingCondition takes one condition out of the rule of sharing at a time: the property above would
// not be worth much if it held then too.
func TestModelNoticesAnyMissingCondition(t *testing.T) {
	for name, mutant := range map[string]func(sharing) bool{
		"the operator need not vouch":      func(s sharing) bool { s.vouched = true; return s.allowed() },
		"credentials do not matter":        func(s sharing) bool { s.anonymous = true; return s.allowed() },
		"the answer need not say so":       func(s sharing) bool { s.declared = true; return s.allowed() },
		"Vary by who asks does not matter": func(s sharing) bool { s.impartial = true; return s.allowed() },
	} {
		t.Run(name, func(t *testing.T) {
			steps := rapid.Custom(func(rt *rapid.T) error {
				m := newModel(t, mutant)
				defer m.cache.Close()
				for range 60 {
					if err := m.step(rt); err != nil {
						return err
					}
				}
				return nil
			})
			for seed := range 300 {
				if err := steps.Example(seed); err != nil {
					t.Logf("noticed with seed %d: %v", seed, err)
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}
