package verify

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/evidence"
	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// again appends a record that an earlier decision was taken again.
func (w *world) again(a *audit.Audit, of, path string, allow bool) {
	r := &audit.Record{Type: audit.TypeReevaluated, App: "wiki", Effect: audit.Deny, Reason: "policy", Decision: fmt.Appendf(nil, `{"allow":%v}`, allow),
		Policy: audit.Policy{Digest: digestOf(w.archive)}, Detail: fmt.Appendf(nil, `{"of":%q,"changed":{"path":%q}}`, of, path)}
	if allow {
		r.Effect, r.Reason = audit.Allow, "allow"
	}
	if _, err := a.Decisions().Append(context.Background(), r); err != nil {
		w.t.Error(err)
	}
}

// Decisions that were taken again are recomputed out of what changed and the first decision, in directories and bundles.
func TestDecisionsTakenAgainAreRecomputed(t *testing.T) {
	for _, row := range []struct {
		name, of string // empty: a first decision
		allow    bool
		want     Result
	}{
		{"rightly", "", true, Pass}, {"wrongly", "", false, Tampered}, {"of nothing", "018f0000-0000-7000-8000-000000000000", true, Tampered}, {"of no id", "x", true, Tampered},
	} {
		w := newWorld(t, rand.New(rand.NewPCG(21, 1)))
		bubble(t, func() {
			w.run(func(a *audit.Audit, _ *machine) {
				w.control(a, 1)
				w.decide(a, 5)
				of := row.of
				if of == "" {
					of = w.ids[2]
				}
				w.again(a, of, "even", row.allow)
				w.decide(a, 5)
				w.again(a, w.ids[2], "odd", false)
			})
		})
		s := &scene{w: w, now: w.files()}
		trust := w.keys.trust(t)
		report := verifyFiles(t, s.now, Options{Trust: trust, Rederive: new(oracle)})
		if report.Result != row.want || row.want == Pass && report.Rederived != 12 {
			t.Errorf("decided again %s: want %v\n%s", row.name, row.want, printed(report))
		}
		if report := verifyFiles(t, s.now, Options{Trust: trust}); report.Result != Pass {
			t.Errorf("decided again %s, nothing recomputed:\n%s", row.name, printed(report))
		}
		if row.of == "x" {
			continue
		}
		report = verifyBundle(t, s.bundle(t), Options{Trust: trust, Rederive: new(oracle)})
		want := row.want
		if row.of != "" {
			want = Gaps // the first decision may lie outside of a bundle
		}
		if report.Result != want {
			t.Errorf("bundle, decided again %s: want %v\n%s", row.name, want, printed(report))
		}
	}
}

// bundle is an evidence bundle with everything.
func (s *scene) bundle(t testing.TB) []byte {
	dir := t.TempDir()
	store(t, dir, s.now)
	var b bytes.Buffer
	_, err := evidence.Write(context.Background(), &b, &archive{t: t, dir: dir, trees: map[string]*audit.Tree{}}, evidence.Options{
		Created: time.Unix(1, 0), Who: "an auditor", Sign: func(sum [32]byte) ([]byte, error) {
			return s.w.keys.signNote(testOrigin+"/manifest", evidence.NoteText(testOrigin+"/manifest", sum)), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A second series of checkpoints continues the first where it says so, and what it says of the first must be true.
func TestSeriesOfCheckpointsContinueEachOther(t *testing.T) {
	for _, row := range []struct {
		name string
		line func(last tree.Checkpoint) []string
		want Result
	}{
		{"as it was", func(c tree.Checkpoint) []string {
			return []string{fmt.Sprintf("previous %s %d %s", c.Origin, c.Size, c.Root)}
		}, Pass},
		{"another root", func(c tree.Checkpoint) []string {
			return []string{fmt.Sprintf("previous %s %d %s", c.Origin, c.Size, tree.HashLeaf(nil))}
		}, Gaps},
		{"more records", func(c tree.Checkpoint) []string {
			return []string{fmt.Sprintf("previous %s %d %s", c.Origin, c.Size+1000, c.Root)}
		}, Gaps},
		{"another log", func(c tree.Checkpoint) []string {
			return []string{fmt.Sprintf("previous %s %d %s", testOrigin+"/control", c.Size, c.Root)}
		}, Tampered},
		{"nonsense", func(c tree.Checkpoint) []string { return []string{"previous x"} }, Tampered},
		{"nothing", func(tree.Checkpoint) []string { return nil }, Gaps},
	} {
		w := newWorld(t, rand.New(rand.NewPCG(22, 1)))
		bubble(t, func() {
			life := func(a *audit.Audit, _ *machine) { w.decide(a, 5); w.control(a, 2); time.Sleep(2 * time.Second) }
			w.run(life)
			last := w.keys.last["decision"]
			w.keys.last["decision"] = tree.Checkpoint{Origin: testOrigin + "/decision/2", Root: tree.EmptyRoot, Extensions: row.line(last)}
			w.run(life)
		})
		report := verifyFiles(t, w.files(), Options{Trust: w.keys.trust(t)})
		if report.Result != row.want || row.want == Pass && report.Logs[0].Origin != testOrigin+"/decision/2" {
			t.Errorf("%s: want %v\n%s", row.name, row.want, printed(report))
		}
	}
}

// What a power cut leaves of a batch is a stated gap, before the next start and after it; a batch that was signed is not
// torn but tampered with.
func TestTornTailIsStated(t *testing.T) {
	dir := t.TempDir()
	keys := newKeys(1)
	cfg := audit.Config{Dir: dir, SegmentSize: 1 << 20, Origin: testOrigin}
	start := func() {
		a, err := audit.Open(cfg, audit.Options{Replica: "gw1"})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, rnd: rand.New(rand.NewPCG(1, 1))}
		w.decideOne(a)
		w.control(a, 1)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := a.Keep(ctx, audit.Keeping{Signer: keys}); err != nil {
			t.Fatal(err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	start()
	path := filepath.Join(dir, segment.Name("decision", 1))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(b)
	copy(torn[usedBytes(b):], "\xf5SPBtorn")
	states := func(what string, want Result) {
		t.Helper()
		report, err := Run(context.Background(), dir, Options{Trust: keys.trust(t)})
		if err != nil || report.Result != want || want == Gaps && !slices.ContainsFunc(report.Gaps, func(g Gap) bool { return g.Class == ClassTail }) {
			t.Errorf("%s: want %v: %v\n%s", what, want, err, printed(report))
		}
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(torn)
	states("before the next start", Gaps)
	signed := bytes.Clone(b)
	signed[segment.Block+100]++
	write(signed)
	states("a signed batch", Tampered)
	write(torn)
	start()
	states("after the next start", Gaps)
}

// The first line for people is the verdict, and nothing in a file can do anything to a terminal.
func TestPrintedReport(t *testing.T) {
	r := &Report{}
	for _, f := range []Finding{
		{Severity: Gaps, Class: ClassOutage, Text: "a gap"}, {Severity: Tampered, Class: ClassRoot, Text: "a bad \x1b[2J root\u202e", File: "x", Offset: 3}, {Severity: Pass, Class: ClassUnknown, Text: "a note"},
	} {
		r.add(f)
	}
	r.sort()
	text := printed(r)
	if !strings.HasPrefix(text, "TAMPERED: a bad \ufffd[2J root\ufffd\n") || strings.ContainsAny(text, "\x1b\u202e") || r.ExitCode() != 1 {
		t.Errorf("printed:\n%q", text)
	}
	for result, want := range map[Result]string{Pass: "PASS: ", Gaps: "PASS WITH GAPS: ", Untrusted: "UNTRUSTED", Incomplete: "INCOMPLETE", CannotRun: "CANNOT RUN"} {
		if got := (&Report{Result: result}).Headline(); !strings.HasPrefix(got, want) {
			t.Errorf("headline of %d: %q", result, got)
		}
	}
	for range 10 * maxAlike {
		r.add(Finding{Severity: Tampered, Class: ClassRecord, Text: "one of many"})
	}
	if len(r.Findings) > maxAlike+3 || r.Omitted != 9*maxAlike {
		t.Errorf("%d findings listed, %d omitted", len(r.Findings), r.Omitted)
	}
}
