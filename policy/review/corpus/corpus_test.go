package corpus

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/replay"
)

// monday is a Monday morning, 09:30 UTC.
var monday = time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)

func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// own is a package that looks at names; the test puts texts in.
const own = `package sallyport.app["own"]

default decision := {"allow": false, "reasons": [{"code": "no"}]}

decision := {"allow": true, "reasons": [{"code": "allow", "rule": "own"}]} if {
	%s
}
`

func randomEngine(t *testing.T, r *rand.Rand) *policy.Engine {
	t.Helper()
	wiki := policy.App{Name: "wiki", Sensitivity: pick(r, "low", "high")}
	for range 1 + r.IntN(2) {
		wiki.Access = append(wiki.Access, randomRule(r))
	}
	condition := pick(r, `input.subject.groups[_] == "staff"`, `startswith(input.subject.email, "ada")`, `input.subject.claims.team == "blue"`,
		`endswith(input.subject.email, "@corp.example")`, `startswith(input.resource.path, "/users/u-1")`)
	cfg := policy.Config{Memo: true, Bundle: t.TempDir(), Timezone: pick(r, "UTC", "UTC", "Asia/Kolkata")}
	if err := os.WriteFile(filepath.Join(cfg.Bundle, "own.rego"), fmt.Appendf(nil, own, condition), 0o600); err != nil {
		t.Fatal(err)
	}
	return build(t, cfg, wiki, policy.App{Name: "own"})
}

func build(t *testing.T, cfg policy.Config, apps ...policy.App) *policy.Engine {
	t.Helper()
	b, err := policy.Build(cfg, apps)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func randomRule(r *rand.Rand) policy.Rule {
	rule := policy.Rule{Groups: []string{pick(r, "staff", "sales")}}
	switch r.IntN(6) {
	case 0:
		rule.Emails = []string{pick(r, "ada@corp.example", "bob@corp.example")}
	case 1:
		rule.Domains = []string{pick(r, "corp.example", "partner.example")}
	case 2:
		rule.Paths = []string{pick(r, "/users/", "/users/u-1/", "/admin/")}
	case 3:
		rule.Networks = []netip.Prefix{netip.MustParsePrefix(pick(r, "192.0.2.0/24", "192.0.2.64/26", "192.0.2.0/23"))}
	case 4:
		rule.Hours = &policy.Hours{From: "08:00", To: "12:00"}
	}
	return rule
}

func randomRecord(t *testing.T, r *rand.Rand, e *policy.Engine, n int) replay.Record {
	t.Helper()
	name := pick(r, "ada", "bob", "eve")
	path := pick(r, "/", "/users/u-1/x", "/users/u-2", "/admin/keys", "/docs/Annual-Report-of-Ada")
	in := &policy.Input{
		Subject: policy.Subject{
			Type: policy.TypeUser, ID: "corp|id-" + name, Email: name + pick(r, "@corp.example", "@partner.example"), EmailVerified: true,
			Groups: pick(r, nil, []string{"staff"}, []string{"sales"}), Claims: map[string]any{"team": pick(r, "blue", "red"), "name": "Dr. " + name},
			Session: &policy.Session{ID: "session-of-" + name}, Authn: &policy.Authn{Provider: "corp", AMR: []string{"pwd"}},
		},
		Action:   policy.Action{Name: policy.ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: pick(r, "wiki", "own"), Host: "h.example", Path: path, Segments: strings.Split(path, "/")[1:], Query: "q=ada&token=" + policy.Redacted},
		Context: policy.Context{
			Client:  policy.Client{IP: pick(r, "192.0.2.70", "192.0.2.7", "192.0.3.9", "2001:db8:0:1::7")},
			Request: policy.Request{ID: strconv.Itoa(n), Headers: map[string]string{"x-user": name}},
		},
	}
	zone, err := timezone(e)
	if err != nil {
		t.Fatal(err)
	}
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	in.Context.SetTime(monday.Add(time.Duration(r.IntN(24))*time.Hour), location)
	v := e.Answer(t.Context(), in)
	return replay.Record{
		ID: fmt.Sprint("r", n), Time: time.Unix(0, in.Context.TimeNS), App: in.Resource.ID, Policy: e.Digest(),
		Input: in.AppendJSON(nil), Allow: v.Allow, Reason: v.Reason, Decision: v.JSON, Weight: pick[int64](r, 0, 3),
	}
}

// written is a corpus and what it was made of.
type written struct {
	from    *policy.Engine
	records []replay.Record
	header  *Header
	text    []byte
	corpus  *Corpus
}

func write(t *testing.T, r *rand.Rand, o Options) *written {
	t.Helper()
	w := &written{from: randomEngine(t, r)}
	for n := range 60 {
		w.records = append(w.records, randomRecord(t, r, w.from, n))
	}
	o.Policy, o.Source, o.Key, o.Created, o.Program = w.from, replay.Of(w.records...), Key{byte(r.Uint32())}, monday, "test"
	var out bytes.Buffer
	var err error
	if w.header, err = Write(t.Context(), &out, o); err != nil {
		t.Fatal(err)
	}
	w.text = out.Bytes()
	if w.corpus, err = Read(bytes.NewReader(w.text)); err != nil {
		t.Fatal(err)
	}
	return w
}

// tally counts requests by app and how their answer changes.
type tally map[string]int64

func (w *written) replayed(t *testing.T, to *policy.Engine, lacks func(string, []string) string) (*replay.Result, tally) {
	t.Helper()
	result, err := replay.Run(t.Context(), replay.Config{From: w.from, To: to, Source: w.corpus.Source(), Lacks: lacks})
	if err != nil {
		t.Fatal(err)
	}
	return result, tallied(result)
}

func tallied(result *replay.Result) tally {
	sum := make(tally)
	for _, d := range result.Differences {
		sum[d.Input.Resource.ID+" "+string(d.Change)] += d.Requests
	}
	return sum
}

// truth is what the records themselves say of the apps that a corpus can be asked about.
func (w *written) truth(t *testing.T, to *policy.Engine, without *replay.Result) tally {
	t.Helper()
	var records []replay.Record
	for _, r := range w.records {
		lacking := false
		for _, n := range without.NotReplayable {
			lacking = lacking || strings.HasPrefix(n.Reason, "app "+r.App+":")
		}
		if !lacking {
			records = append(records, r)
		}
	}
	result, err := replay.Run(t.Context(), replay.Config{From: w.from, To: to, Source: replay.Of(records...)})
	if err != nil {
		t.Fatal(err)
	}
	return tallied(result)
}

func (w *written) compare(t *testing.T, to *policy.Engine, lacks func(string, []string) string) (asked bool, err error) {
	t.Helper()
	result, got := w.replayed(t, to, lacks)
	if p := &result.Parity; p.Different != 0 {
		return false, fmt.Errorf("no parity: %+v", p)
	}
	if diff := gocmp.Diff(w.truth(t, to, result), got); diff != "" {
		return false, fmt.Errorf("-log +corpus:\n%s", diff)
	}
	return result.Totals.Replayed > 0, nil
}

// TestCorpusSaysWhatTheLogSays tries new policies on a corpus and on what it was made of.
func TestCorpusSaysWhatTheLogSays(t *testing.T) {
	r := random(t)
	asked := 0
	for range rounds(20) {
		w := write(t, r, Options{Also: pick(r, nil, []string{"subject.email", "subject.email_verified", "resource.path", "context.client.ip"})})
		if len(w.header.LeftOut) > 0 {
			continue // what is not there can have changed as well
		}
		for range 2 {
			to := randomEngine(t, r)
			could, err := w.compare(t, to, w.corpus.Lacks(t.Context(), w.from, to))
			if err != nil {
				t.Fatal(err)
			}
			if could {
				asked++
			}
		}
	}
	if asked == 0 {
		t.Error("no corpus could be asked anything")
	}
}

// TestPseudonymsThatAreTakenForNamesAreCaught leaves out Lacks, which the comparison above must see.
func TestPseudonymsThatAreTakenForNamesAreCaught(t *testing.T) {
	r := random(t)
	for range 40 {
		w := write(t, r, Options{Also: []string{"subject.email", "subject.email_verified", "resource.path", "context.client.ip"}})
		if len(w.header.LeftOut) > 0 {
			continue
		}
		if _, err := w.compare(t, randomEngine(t, r), nil); err != nil {
			return
		}
	}
	t.Error("pseudonyms and names were never mixed up")
}

// names are what no corpus may show unless the policy does.
var names = regexp.MustCompile(`(?i)\b(ada|bob|eve)\b|192\.0\.2\.7|192\.0\.3\.9|::7|u-2|session-of|annual`)

func leaks(w *written) string {
	known := slices.Concat(slices.Collect(maps.Values(w.header.Known))...)
	slices.SortFunc(known, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // ada@corp.example before @corp.example
	text := string(w.text)
	for _, value := range known {
		text = strings.ReplaceAll(text, value, "")
	}
	return names.FindString(text)
}

func TestCorpusHoldsNoNames(t *testing.T) {
	r := random(t)
	all := policy.WholeInput().Fields()
	for range rounds(20) {
		if found := leaks(write(t, r, Options{Also: all})); found != "" {
			t.Fatalf("it shows %q", found)
		}
	}
}

func TestNamesInACorpusAreCaught(t *testing.T) {
	w := write(t, random(t), Options{Also: []string{"subject.email"}})
	w.text = append(w.text, w.records[0].Input...)
	if leaks(w) == "" {
		t.Error("names went unnoticed")
	}
}

func TestRedactionThatChangesAnAnswerLeavesOut(t *testing.T) {
	cfg := policy.Config{Bundle: t.TempDir()}
	rule := fmt.Appendf(nil, own, "count(input.subject.email) == 16")
	if err := os.WriteFile(filepath.Join(cfg.Bundle, "own.rego"), rule, 0o600); err != nil {
		t.Fatal(err)
	}
	e := build(t, cfg, policy.App{Name: "own"})
	r := rand.New(rand.NewPCG(1, 1))
	var records []replay.Record
	for n := range 20 {
		records = append(records, randomRecord(t, r, e, n))
	}
	var out bytes.Buffer
	h, err := Write(t.Context(), &out, Options{Policy: e, Source: replay.Of(records...)})
	if err != nil {
		t.Fatal(err)
	}
	if h.LeftOut[leftChanged] == 0 || h.LeftOut[leftOtherApp] == 0 {
		t.Errorf("got %v, want requests left out for both reasons", h.LeftOut)
	}
}

func TestCorpusThatWasAltered(t *testing.T) {
	r := random(t)
	signed := func(sum [32]byte) ([]byte, error) { return fmt.Appendf(nil, "%x\n", sum), nil }
	w := write(t, r, Options{Sign: signed})
	if want := fmt.Sprintf("%x\n", w.corpus.Sum()); string(w.corpus.Note()) != want {
		t.Fatalf("got note %q, want %q", w.corpus.Note(), want)
	}
	for range rounds(200) {
		text := bytes.Clone(w.text)
		at := r.IntN(len(text))
		text[at] ^= byte(1 + r.IntN(255))
		c, err := Read(bytes.NewReader(text))
		if err == nil && fmt.Sprintf("%x\n", c.Sum()) == string(c.Note()) {
			t.Fatalf("byte %d was changed to %q, and nobody saw it", at, text[at])
		}
	}
	for _, cut := range []int{0, 1, len(w.text) / 2, len(w.text) - 70} {
		if _, err := Read(bytes.NewReader(w.text[:cut])); !errors.Is(err, ErrAltered) && !errors.Is(err, ErrNotCorpus) {
			t.Errorf("cut at %d: got %v", cut, err)
		}
	}
}

func TestEntryWithMoreThanTheHeaderSays(t *testing.T) {
	w := write(t, random(t), Options{})
	text := bytes.Replace(w.text, []byte(`"input":{`), []byte(`"input":{"x":1,`), 1)
	if _, err := Read(bytes.NewReader(text)); !errors.Is(err, ErrAltered) {
		t.Errorf("got %v", err)
	}
}

func TestWriteThatFails(t *testing.T) {
	e := build(t, policy.Config{}, policy.App{Name: "wiki", Access: policy.Access{{Groups: []string{"staff"}}}})
	record := randomRecord(t, rand.New(rand.NewPCG(1, 1)), e, 1)
	record.App = "wiki"
	broken := errors.New("broken")
	for name, o := range map[string]Options{
		"source": {Source: func(yield func(replay.Batch, error) bool) { yield(nil, broken) }},
		"sign":   {Source: replay.Of(), Sign: func([32]byte) ([]byte, error) { return nil, broken }},
	} {
		o.Policy = e
		if _, err := Write(context.Background(), new(bytes.Buffer), o); !errors.Is(err, broken) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Write(context.Background(), new(bytes.Buffer), Options{Policy: e, Source: replay.Of(record), Also: []string{"subject.shoe"}}); err == nil {
		t.Error("a field that does not exist was taken")
	}
}

func TestGainsAreSeenInACorpus(t *testing.T) {
	r := random(t)
	w := write(t, r, Options{})
	open := build(t, policy.Config{}, policy.App{Name: "wiki", Access: policy.Access{{Public: true}}}, policy.App{Name: "own", Access: policy.Access{{Public: true}}})
	result, _ := w.replayed(t, open, w.corpus.Lacks(t.Context(), w.from, open))
	if result.Totals.Changed[review.Gained] == 0 || !result.Parity.Holds() {
		t.Errorf("got %+v", result.Totals)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(begin + `1,"entries":0}` + "\n\n"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if c, err := Read(bytes.NewReader(text)); err == nil {
			for batch := range c.Source() {
				for range batch {
					continue
				}
			}
		}
	})
}

func TestNothingOfAQueryOrAClaimIsKeptButItsName(t *testing.T) {
	r := &redactor{known: map[string]bool{"open": true}}
	for query, want := range map[string]string{
		"": "", "state=open&page": "state=open&page", "token=" + policy.Redacted: "token=" + policy.Redacted, "filter[user]=": "filter[user]=",
	} {
		if got := r.query(query); got != want {
			t.Errorf("query %q became %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"ada@corp.example", "q=%zzada", "ada@corp.example=1", "a&token-4711-ada", "q=ada", "Ada%20Example"} {
		if got := r.query(query); strings.Contains(strings.ToLower(got), "ada") {
			t.Errorf("query %q became %q", query, got)
		}
	}
	claims := r.claim(map[string]any{"deputies": map[string]any{"ada@corp.example": true}})
	if text := fmt.Sprint(claims); strings.Contains(text, "ada") || !strings.Contains(text, "deputies") {
		t.Errorf("claims became %s", text)
	}
}
