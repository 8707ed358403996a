package evidence

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"sallyport/audit"
)

func TestBundleHoldsWhatWasAskedFor(t *testing.T) {
	src := newArchive(200)
	denied := contains(`"effect":"deny"`)
	tests := map[string]struct {
		change          func(*Options)
		first, end      uint64 // of the decision log
		inPeriod, match uint64
	}{
		"everything": {func(*Options) {}, 0, 200, 200, 200},
		"a period": {func(o *Options) {
			o.From, o.To = epoch.Add(10*time.Minute), epoch.Add(20*time.Minute)
		}, 9, 21, 10, 10},
		"from a time on":     {func(o *Options) { o.From = epoch.Add(150 * time.Minute) }, 149, 200, 50, 50},
		"up to a time":       {func(o *Options) { o.To = epoch.Add(30 * time.Minute) }, 0, 31, 30, 30},
		"a time between two": {func(o *Options) { o.From, o.To = epoch.Add(90*time.Second), epoch.Add(100*time.Second) }, 1, 3, 0, 0},
		"before all":         {func(o *Options) { o.To = epoch }, 0, 1, 0, 0},
		"after all":          {func(o *Options) { o.From = epoch.Add(1000 * time.Hour) }, 199, 200, 0, 0},
		"a query":            {func(o *Options) { o.Query, o.Match = `effect == "deny"`, denied }, 0, 200, 200, 67},
		"only what matches in a period": {func(o *Options) {
			o.From, o.To = epoch.Add(10*time.Minute), epoch.Add(20*time.Minute)
			o.Query, o.Match, o.OnlyMatching = `effect == "deny"`, denied, true
		}, 9, 21, 10, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			opts := options(t)
			test.change(&opts)
			b := mustOpen(t, bundleBytes(t, src, opts))
			verified(t, b, src)
			l := b.Manifest().Log(audit.DecisionLog)
			if l.First != test.first || l.End != test.end || l.InPeriod != test.inPeriod || l.Matching != test.match {
				t.Errorf("records %d to %d, %d in the period, %d match; want %+v", l.First, l.End, l.InPeriod, l.Matching, test)
			}
			next := l.First
			for leaf, err := range b.Records(audit.DecisionLog) {
				raw := src.records[audit.DecisionLog][next]
				i := time.Duration(next) * time.Minute
				match := opts.period().holds(epoch.Add(i)) && (opts.Match == nil || opts.Match(raw))
				if err != nil || leaf.Index != next || leaf.Match != match {
					t.Fatalf("record %d: index %d, match %v, want %v: %v", next, leaf.Index, leaf.Match, match, err)
				}
				if shown := match || !opts.OnlyMatching; shown != (leaf.Raw != nil) || shown && !bytes.Equal(leaf.Raw, raw) {
					t.Errorf("record %d is %q", next, leaf.Raw)
				}
				next++
			}
			if next != l.End {
				t.Errorf("records end at %d, want %d", next, l.End)
			}
		})
	}
}

// Clocks go back: what has a time in the period is in the range, whatever lies between.
func TestPeriodFollowsAClockThatWentBack(t *testing.T) {
	minutes := []int{0, 1, 2, 9, 3, 4, 12, 2, 13, 14}
	src := newArchive(0)
	for i, m := range minutes {
		src.records[audit.DecisionLog] = append(src.records[audit.DecisionLog], decision(i, epoch.Add(time.Duration(m)*time.Minute), "wiki", audit.Allow))
	}
	opts := options(t)
	opts.Logs = []string{audit.DecisionLog}
	opts.From, opts.To = epoch.Add(2*time.Minute), epoch.Add(5*time.Minute)
	b := mustOpen(t, bundleBytes(t, src, opts))
	verified(t, b, src)
	l := b.Manifest().Log(audit.DecisionLog)
	if l.First != 1 || l.End != 9 || l.InPeriod != 4 {
		t.Errorf("records %d to %d with %d in the period; want 1 to 9 with 4", l.First, l.End, l.InPeriod)
	}
}

// The counts, the marks and the range of any log, period and query are those of a naive recount.
func TestCountsAreThoseOfANaiveRecount(t *testing.T) {
	sign, _ := newSigner(t)
	rapid.Check(t, func(r *rapid.T) {
		src := newArchive(0)
		n := rapid.IntRange(0, 60).Draw(r, "records")
		times := rapid.SliceOfN(rapid.IntRange(0, 40), n, n).Draw(r, "minutes")
		effects := rapid.SliceOfN(rapid.SampledFrom([]audit.Effect{audit.Allow, audit.Deny, audit.Reject}), n, n).Draw(r, "effects")
		for i := range n {
			src.records[audit.DecisionLog] = append(src.records[audit.DecisionLog], decision(i, epoch.Add(time.Duration(times[i])*time.Minute), "wiki", effects[i]))
		}
		oldest := uint64(rapid.IntRange(0, n).Draw(r, "oldest"))
		src.oldest[audit.DecisionLog] = oldest
		opts := Options{Created: epoch, Who: "x", Sign: sign, partSize: rapid.IntRange(1, 4000).Draw(r, "part"),
			Query: "deny", Match: contains(`"effect":"deny"`), OnlyMatching: rapid.Bool().Draw(r, "only")}
		opts.From = epoch.Add(time.Duration(rapid.IntRange(0, 40).Draw(r, "from")) * time.Minute)
		opts.To = opts.From.Add(time.Duration(rapid.IntRange(0, 20).Draw(r, "length")) * time.Minute)
		b := mustOpen(t, bundleBytes(t, src, opts))
		verified(t, b, src)
		l := b.Manifest().Log(audit.DecisionLog)
		var inPeriod, matching uint64
		for i := int(oldest); i < n; i++ {
			at := epoch.Add(time.Duration(times[i]) * time.Minute)
			if !opts.period().holds(at) {
				continue
			}
			inPeriod++
			if uint64(i) < l.First || uint64(i) >= l.End {
				r.Fatalf("record %d is in the period and not in %d to %d", i, l.First, l.End)
			}
			if effects[i] == audit.Deny {
				matching++
			}
		}
		if l.InPeriod != inPeriod || l.Matching != matching {
			r.Fatalf("%d in the period with %d matches, want %d with %d", l.InPeriod, l.Matching, inPeriod, matching)
		}
		for _, neighbour := range []struct {
			there bool
			index uint64
		}{{l.First > oldest, l.First}, {l.End < uint64(n), l.End - 1}} {
			if neighbour.there && opts.period().holds(epoch.Add(time.Duration(times[neighbour.index])*time.Minute)) {
				r.Fatalf("record %d does not show that the range %d to %d ends with the period", neighbour.index, l.First, l.End)
			}
		}
		for _, c := range l.Counts {
			want := uint64(0)
			for i := l.First; i < l.End; i++ {
				if string(effects[i]) == c.Effect {
					want++
				}
			}
			if c.Records != want {
				r.Fatalf("%d records of effect %s, want %d", c.Records, c.Effect, want)
			}
		}
	})
}

func TestSameArgumentsGiveTheSameBytes(t *testing.T) {
	opts := options(t)
	opts.Query, opts.Match = "deny", contains(`"effect":"deny"`)
	first := bundleBytes(t, newArchive(500), opts)
	for range 3 {
		if !bytes.Equal(bundleBytes(t, newArchive(500), opts), first) {
			t.Fatal("the same arguments gave other bytes")
		}
	}
}

// Any zip program unpacks a bundle, and sha256sum agrees with its manifest.
func TestOtherProgramsReadABundle(t *testing.T) {
	b := bundleBytes(t, newArchive(300), options(t))
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if contents[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if !f.Mode().IsRegular() || f.Mode().Perm() != 0o644 {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
	var m Manifest
	if err := json.Unmarshal(contents[ManifestName], &m); err != nil {
		t.Fatal(err)
	}
	if len(contents) != len(m.Files)+2 {
		t.Errorf("%d files, the manifest lists %d", len(contents), len(m.Files))
	}
	for _, f := range m.Files {
		if sum := sha256.Sum256(contents[f.Name]); hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Errorf("%s has SHA-256 %x", f.Name, sum)
		}
	}
}

func TestManifestIsSignedByItsKey(t *testing.T) {
	opts := options(t)
	var vkey string
	opts.Sign, vkey = newSigner(t)
	b := mustOpen(t, bundleBytes(t, newArchive(3), opts))
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(b.Note(), note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	name, sum, err := ParseNoteText(n.Text)
	if err != nil || name != keyName || sum != sha256.Sum256(b.ManifestText()) {
		t.Errorf("note by %q over %x: %v", name, sum, err)
	}
}

func TestPoliciesComeAlong(t *testing.T) {
	src := newArchive(20)
	digest := digestOf(policyText)
	b := mustOpen(t, bundleBytes(t, src, options(t)))
	if got, err := b.Policy(digest); err != nil || !bytes.Equal(got, policyText) {
		t.Errorf("policy is %q, %v", got, err)
	}
	src.policies = nil
	b = mustOpen(t, bundleBytes(t, src, options(t)))
	verified(t, b, src)
	if m := b.Manifest(); len(m.Policies) != 0 || !slices.Equal(m.MissingPolicies, []string{digest}) {
		t.Errorf("policies %v, missing %v", m.Policies, m.MissingPolicies)
	}
	if _, err := b.Policy(digest); err == nil {
		t.Error("a policy that is not there was returned")
	}
}

// AUD-05: what a bundle withholds can be found nowhere in it, while its place is proven.
func TestWithheldRecordsSayNothing(t *testing.T) {
	src := newArchive(200)
	opts := options(t)
	opts.Query, opts.Match, opts.OnlyMatching = `app == "payroll"`, contains(`"app":"payroll"`), true
	b := mustOpen(t, bundleBytes(t, src, opts))
	verified(t, b, src)
	for i := range b.Manifest().Files {
		text, err := b.read(b.Manifest().Files[i].Name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("wiki")) {
			t.Errorf("%s says what is withheld", b.Manifest().Files[i].Name)
		}
	}
	if l := b.Manifest().Log(audit.DecisionLog); l.Withheld != 160 {
		t.Errorf("%d withheld, want 160", l.Withheld)
	}
}

// lyingSource gives other records than those that were signed.
type lyingSource struct {
	*archive
	change func(index uint64, raw []byte) []byte
}

func (s lyingSource) Records(ctx context.Context, log string, first, end uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		index := first
		for raw, err := range s.archive.Records(ctx, log, first, end) {
			if raw = s.change(index, raw); raw != nil && !yield(raw, err) {
				return
			}
			index++
		}
	}
}

func TestNoBundleIsMadeOfRecordsThatWereNotSigned(t *testing.T) {
	changes := map[string]func(uint64, []byte) []byte{
		"one was edited": func(i uint64, raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"seq":7,`), []byte(`"seq":8,`), 1)
		},
		"one was left out": func(i uint64, raw []byte) []byte { return map[bool][]byte{true: nil, false: raw}[i == 5] },
		"one is no record": func(i uint64, raw []byte) []byte { return map[bool][]byte{true: []byte("x"), false: raw}[i == 5] },
		"one has a break":  func(i uint64, raw []byte) []byte { return map[bool][]byte{true: []byte("{\n}"), false: raw}[i == 5] },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			if _, err := Write(t.Context(), io.Discard, lyingSource{newArchive(20), change}, options(t)); err == nil {
				t.Error("a bundle was made")
			} else {
				t.Log(err)
			}
		})
	}
}

// failingWriter fails after some bytes, as a full disk does.
type failingWriter struct{ left int }

var errFull = errors.New("disk full")

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestWritingStopsAtTheFirstError(t *testing.T) {
	size := len(bundleBytes(t, newArchive(300), options(t)))
	for left := 0; left < size; left += size/50 + 1 {
		if _, err := Write(t.Context(), &failingWriter{left}, newArchive(300), options(t)); !errors.Is(err, errFull) {
			t.Fatalf("after %d bytes: %v", left, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errFull)
	if _, err := Write(ctx, io.Discard, newArchive(300), options(t)); !errors.Is(err, errFull) {
		t.Errorf("cancelled: %v", err)
	}
	opts := options(t)
	opts.Sign = func([sha256.Size]byte) ([]byte, error) { return nil, errFull }
	if _, err := Write(t.Context(), io.Discard, newArchive(3), opts); !errors.Is(err, errFull) {
		t.Errorf("unsigned: %v", err)
	}
}

// ADM-01, INJ-08: what people wrote stays text.
func TestHostileTextIsInert(t *testing.T) {
	const hostile = "<img src=x onerror=alert(1)>\u202e\x1b[2J\n=cmd()"
	src := newArchive(1)
	src.records[audit.DecisionLog] = append(src.records[audit.DecisionLog], []byte(
		`{"v":1,"id":"x","log":"decision","seq":1,"boot":{"id":"b","n":1},"type":"<script>x","time":"2026-11-01T00:00:00.000000000Z","replica":"r","effect":"\u001b<b>"}`))
	opts := options(t)
	opts.Who, opts.Query, opts.Program, opts.Match = hostile, hostile, hostile, contains("x")
	b := mustOpen(t, bundleBytes(t, src, opts))
	page, err := b.read(SummaryName)
	if err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	elements := map[string]int{}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			elements[n.Data]++
		}
	}
	if elements["img"]+elements["script"]+elements["b"] != 0 || elements["main"] != 1 || elements["h1"] != 1 || elements["caption"] != 2 {
		t.Errorf("elements of the page: %v", elements)
	}
	readme, err := b.read(ReadmeName)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{SummaryName: string(page), ReadmeName: string(readme)} {
		if strings.ContainsAny(text, "\x1b\u202e") {
			t.Errorf("%s holds control characters", name)
		}
	}
}

// The schema that comes along describes what the log writes.
func TestSchemaDescribesRecords(t *testing.T) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(recordSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("record.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("record.json")
	if err != nil {
		t.Fatal(err)
	}
	full := audit.Record{Type: audit.TypeOutcome, Code: "c", RequestID: "r", Session: "s", App: "a", Effect: audit.Reject, Reason: "x",
		Input: json.RawMessage(`{}`), Policy: audit.Policy{Digest: "sha256:" + strings.Repeat("0", 64), Revision: "1"}, Decision: json.RawMessage(`{}`), Memo: true,
		Outcome: &audit.Outcome{Of: "x", Cache: "hit", Upstream: "u", Attempts: 2, Error: "e"},
		Actor:   &audit.Actor{Kind: "user", ID: "i", Name: "n", Address: "a"}, Detail: json.RawMessage(`{}`)}
	lines := append(written(t, &full), decision(3, epoch, "wiki", audit.Deny), control(0, epoch, "sign_in"))
	for _, line := range lines {
		if _, err := audit.DecodeRecord(line); err != nil {
			t.Fatalf("test record: %v", err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// written is a record as the log writes it.
func written(t *testing.T, r *audit.Record) (lines [][]byte) {
	dir := t.TempDir()
	a, err := audit.Open(audit.Config{Dir: dir, SegmentSize: 1 << 20}, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Decisions().Append(t.Context(), r)
	if err := errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}
	reader, err := audit.OpenReader(dir, audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for e, err := range reader.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, e.Raw)
	}
	if len(lines) == 0 {
		t.Fatal("nothing was written")
	}
	return lines
}
