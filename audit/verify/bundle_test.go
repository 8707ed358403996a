package verify

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/evidence"
	"sallyport/audit/filter"
	"sallyport/audit/tree"
)

// archive is an audit directory as bundles are made of it.
type archive struct {
	t     testing.TB
	dir   string
	trees map[string]*audit.Tree
	from  uint64 // where it says that a period begins, at the earliest
}

func (s *archive) tree(log string) *audit.Tree {
	if s.trees[log] == nil {
		tree, err := audit.OpenTree(s.dir, log)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { tree.Close() })
		s.trees[log] = tree
	}
	return s.trees[log]
}

func (s *archive) Checkpoint(log string) ([]byte, tree.Checkpoint, error) {
	signed, c := s.tree(log).Checkpoint()
	return signed, c, nil
}

func (s *archive) Oldest(string) (uint64, error) { return 0, nil }

func (s *archive) Near(_ context.Context, _ string, _, _ time.Time, size uint64) (uint64, uint64, error) {
	return min(s.from, size), size, nil
}

func (s *archive) Records(ctx context.Context, log string, first, end uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r, err := audit.OpenReader(s.dir, log)
		if err != nil {
			yield(nil, err)
			return
		}
		defer r.Close()
		if first == end {
			return
		}
		for line, err := range r.Lines(ctx, first) {
			if !yield(line.Raw, err) || err != nil || line.Seq+1 == end {
				return
			}
		}
	}
}

func (s *archive) RangeProof(log string, first, end, _ uint64) (tree.RangeProof, error) {
	return s.tree(log).Range(context.Background(), first, end)
}

func (s *archive) Policy(digest string) ([]byte, error) { return audit.ReadPolicy(s.dir, digest) }

// bundles are evidence bundles of a scene, of all kinds.
func (s *scene) bundles(t testing.TB) map[string][]byte {
	dir := t.TempDir()
	store(t, dir, s.now)
	src := &archive{t: t, dir: dir, trees: map[string]*audit.Tree{}}
	r, err := audit.OpenReader(dir, audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	middle, err := r.Get(context.Background(), 300)
	if err != nil {
		t.Fatal(err)
	}
	query := `effect == "deny" || type == "control"`
	bundles := map[string][]byte{}
	for name, o := range map[string]evidence.Options{
		"everything":    {},
		"a query":       {Query: query},
		"only matching": {Query: query, OnlyMatching: true},
		"a period":      {From: middle.Record.Time, To: middle.Record.Time.Add(100 * time.Second)},
		"query, period": {From: middle.Record.Time, Query: query},
		"a quiet hour":  {From: middle.Record.Time.Add(240 * time.Hour), To: middle.Record.Time.Add(241 * time.Hour)},
	} {
		o.Created, o.Who, o.Program = middle.Record.Time, "an auditor", "test"
		o.Sign = func(sum [sha256.Size]byte) ([]byte, error) {
			return s.w.keys.signNote(testOrigin+"/manifest", evidence.NoteText(testOrigin+"/manifest", sum)), nil
		}
		if o.Query != "" {
			f, err := filter.Compile(o.Query)
			if err != nil {
				t.Fatal(err)
			}
			o.Match = f.MatchesRaw
		}
		var b bytes.Buffer
		if _, err := evidence.Write(context.Background(), &b, src, o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		bundles[name] = b.Bytes()
	}
	return bundles
}

func verifyBundle(t testing.TB, b []byte, opts Options) *Report {
	t.Helper()
	f, err := os.CreateTemp(scratch(), "verify-*.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	f.Close()
	report, err := Run(context.Background(), f.Name(), opts)
	if err != nil && report.Result != CannotRun {
		t.Fatalf("an error without its result: %v", err)
	}
	return report
}

func TestHonestBundlesPass(t *testing.T) {
	s := newScene(t)
	for name, b := range s.bundles(t) {
		report := verifyBundle(t, b, Options{Trust: s.pinned, Rederive: new(oracle)})
		if report.Result != Pass || len(report.Logs) != 2 || report.Bundle.SignedBy != testOrigin+"/manifest" {
			t.Errorf("%s: %s", name, printed(report))
		}
		if d := report.Logs[1]; name == "everything" && (d.Receipts != 1 || report.Rederived < 900 || d.Signed != d.Size) {
			t.Errorf("%s: less was checked than there is: %s", name, printed(report))
		}
		if report := verifyBundle(t, b, Options{Trust: newKeys(50).trust(t)}); report.Result != Untrusted {
			t.Errorf("%s, signed by nobody known: %s", name, printed(report))
		}
	}
}

// repack writes a bundle anew, as the program that made it would: change may alter files and, through the manifest, what
// is said of them. An empty sign leaves the old signature.
func repack(t testing.TB, b []byte, change func(files map[string][]byte, order *[]string)) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	files, order := map[string][]byte{}, []string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		order = append(order, f.Name)
	}
	change(files, &order)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range order {
		text, ok := files[name]
		if !ok {
			continue
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err == nil {
			_, err = f.Write(text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// remanifest makes the manifest fit the files again, and signs it where sign is not nil.
func remanifest(t testing.TB, files map[string][]byte, change func(m *evidence.Manifest), sign *keys) {
	t.Helper()
	var m evidence.Manifest
	if err := json.Unmarshal(files[evidence.ManifestName], &m); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&m)
	}
	for i := range m.Files {
		f := &m.Files[i]
		if text, ok := files[f.Name]; ok {
			f.Size, f.SHA256 = int64(len(text)), fmt.Sprintf("%x", sha256.Sum256(text))
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		t.Fatal(err)
	}
	files[evidence.ManifestName] = b.Bytes()
	if sign != nil {
		name := testOrigin + "/manifest"
		files[evidence.NoteName] = sign.signNote(name, evidence.NoteText(name, sha256.Sum256(b.Bytes())))
	}
}

// Bundles that were altered, by whoever has the manifest key or not, and bundles of which something is missing.
func TestAlteredAndIncompleteBundlesAreFound(t *testing.T) {
	rnd := randomness(t)
	s := newScene(t)
	bundles := s.bundles(t)
	names := []string{"everything", "a query", "only matching", "a period", "query, period"}
	for range rounds(t, 60) {
		name := pick(rnd, names)
		c := tamperBundle(t, rnd, s, bundles[name])
		if report, ok := c.check(t, s, skips{}); !ok {
			t.Errorf("%s: %s: want %v, got\n%s", name, c.what, c.want, printed(report))
		}
	}
}

// A verifier that leaves out one of its checks of bundles lets something through.
func TestEveryCheckOfBundlesIsNeeded(t *testing.T) {
	rnd := randomness(t)
	s := newScene(t)
	bundles := s.bundles(t)
	for name, skip := range map[string]skips{
		"proofs": {proofs: true}, "counts": {counts: true}, "matches": {matches: true}, "files": {files: true}, "manifest": {manifest: true},
	} {
		t.Run(name, func(t *testing.T) {
			for range 300 {
				c := tamperBundle(t, rnd, s, bundles[pick(rnd, []string{"everything", "a query", "a period"})])
				if _, ok := c.check(t, s, skip); !ok {
					return
				}
			}
			t.Error("nothing gets past a verifier without it")
		})
	}
}

// bundleTampering is one thing done to a bundle. Where the zip was packed anew, that alone is found; the rest must be, too.
type bundleTampering struct {
	what     string
	zip      []byte
	want     []Result
	repacked bool
}

func (c *bundleTampering) check(t testing.TB, s *scene, skip skips) (*Report, bool) {
	report := verifyBundle(t, c.zip, Options{Trust: s.plain, skip: skip})
	result := report.Result
	if c.repacked {
		result = Pass
		for _, f := range report.Findings {
			if f.File != "" || f.Log != "" || f.Class != ClassBundle {
				if f.Severity.gravity() > result.gravity() {
					result = f.Severity
				}
			}
		}
	}
	return report, slices.Contains(c.want, result)
}

func tamperBundle(t testing.TB, rnd *rand.Rand, s *scene, b []byte) (c bundleTampering) {
	switch rnd.IntN(9) {
	case 0:
		c.zip = bytes.Clone(b)
		at := rnd.IntN(len(b))
		c.zip[at] ^= 1 << rnd.IntN(8)
		// The name of a file in the zip may be another one then, or that of the key in the note.
		c.what, c.want = fmt.Sprintf("bit of byte %d", at), []Result{Tampered, Untrusted, Incomplete}
		return c
	case 1:
		n := rnd.IntN(len(b))
		c.zip, c.what, c.want = b[:n], fmt.Sprintf("cut to %d of %d bytes", n, len(b)), []Result{Incomplete}
		if n < 64 {
			c.want = []Result{Incomplete, CannotRun} // so little is no bundle
		}
		return c
	}
	c.want, c.repacked = tampered, true
	c.zip = repack(t, b, func(files map[string][]byte, order *[]string) {
		part := pick(rnd, namesOf(files, func(name string) bool { return strings.HasPrefix(name, "records/") }))
		switch rnd.IntN(9) {
		case 0:
			c.what = "a record edited, manifest left"
			files[part] = editPart(rnd, files[part])
		case 1:
			c.what = "a record edited, manifest signed anew"
			files[part] = editPart(rnd, files[part])
			remanifest(t, files, nil, s.w.keys)
		case 2:
			c.what, c.want = "manifest signed by somebody", untrusted
			remanifest(t, files, nil, newKeys(60))
		case 3:
			name := pick(rnd, *order)
			for strings.HasPrefix(name, "manifest.json") {
				name = pick(rnd, *order)
			}
			c.what, c.want = name+" missing", []Result{Incomplete}
			delete(files, name)
		case 4:
			c.what = "counts changed"
			remanifest(t, files, func(m *evidence.Manifest) { m.Logs[0].Counts[0].Type += "x" }, s.w.keys)
		case 5:
			c.what = "another query"
			remanifest(t, files, func(m *evidence.Manifest) { m.Query = `id == "nobody" && status == 1` }, s.w.keys)
		case 6:
			c.what, c.want = "the checkpoint of a stranger", untrusted
			cp := takeApart(t, s.now, audit.DecisionLog).checkpoint()
			files["checkpoints/decision"] = newKeys(60).signNote(cp.Origin, string(cp.Body()))
			remanifest(t, files, nil, s.w.keys)
		case 7:
			c.what = "a file added"
			files["records/decision/99999999999999999999.jsonl"] = []byte("{}\n")
			*order = append(*order, "records/decision/99999999999999999999.jsonl")
		case 8:
			c.what = "a longer period"
			remanifest(t, files, func(m *evidence.Manifest) {
				if m.From.IsZero() && m.To.IsZero() {
					m.To = time.Date(2000, 1, 1, 0, 3, 0, 0, time.UTC)
				} else {
					m.From = m.From.Add(-time.Hour)
				}
			}, s.w.keys)
		}
	})
	return c
}

// editPart changes a record of a part.
func editPart(rnd *rand.Rand, text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	i := rnd.IntN(len(lines) - 1)
	for tries := 0; lines[i][0] != '{'; tries++ {
		if i = rnd.IntN(len(lines) - 1); tries > 1000 {
			lines[i] = append(bytes.Repeat([]byte("A"), 43), '=', '\n')
			return bytes.Join(lines, nil)
		}
	}
	lines[i] = editLine(rnd, lines[i])
	return bytes.Join(lines, nil)
}

// A bundle from which records at the begin of its period were left out, by somebody who has the manifest's key, is found by
// its edge.
func TestBundleThatLeavesOutItsBeginIsFound(t *testing.T) {
	s := newScene(t)
	dir := t.TempDir()
	store(t, dir, s.now)
	var b bytes.Buffer
	_, err := evidence.Write(context.Background(), &b, &archive{t: t, dir: dir, trees: map[string]*audit.Tree{}, from: 40}, evidence.Options{
		From: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Created: time.Unix(1, 0), Who: "an auditor", Sign: func(sum [sha256.Size]byte) ([]byte, error) {
			return s.w.keys.signNote(testOrigin+"/manifest", evidence.NoteText(testOrigin+"/manifest", sum)), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	if report := verifyBundle(t, b.Bytes(), Options{Trust: s.plain}); report.Result != Tampered {
		t.Error(printed(report))
	}
	if report := verifyBundle(t, b.Bytes(), Options{Trust: s.plain, skip: skips{period: true}}); report.Result != Pass {
		t.Errorf("it is not the edge that tells:\n%s", printed(report))
	}
}

// Files that are missing from a bundle make it incomplete, where nothing else is wrong.
func TestMissingFilesMakeABundleIncomplete(t *testing.T) {
	s := newScene(t)
	dir := t.TempDir()
	store(t, dir, s.now)
	if err := os.Remove(filepath.Join(dir, "policies", strings.TrimPrefix(digestOf(s.w.archive), "sha256:")+".tar")); err != nil {
		t.Fatal(err)
	}
	report, err := Run(context.Background(), dir, Options{Trust: s.plain, Rederive: new(oracle)})
	if err != nil || report.Result != Incomplete {
		t.Errorf("directory without its policy: %v\n%s", err, printed(report))
	}
	if report, err = Run(context.Background(), dir, Options{Trust: s.plain}); err != nil || report.Result != Pass {
		t.Errorf("directory without its policy, not decided again: %v\n%s", err, printed(report))
	}
	if err := os.RemoveAll(filepath.Join(dir, "decision", "tree")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "control")); err != nil {
		t.Fatal(err)
	}
	if report, err = Run(context.Background(), dir, Options{Trust: s.plain}); err != nil || report.Result != Incomplete && report.Result != Tampered {
		t.Errorf("directory without checkpoints: %v\n%s", err, printed(report))
	}
	if report, err = Run(context.Background(), filepath.Join(dir, "nowhere"), Options{}); !errors.Is(err, os.ErrNotExist) || report.ExitCode() != 2 {
		t.Errorf("nothing there: %v, %d", err, report.ExitCode())
	}
	if report, err = Run(context.Background(), t.TempDir(), Options{}); err == nil || report.ExitCode() != 2 {
		t.Errorf("an empty folder: %v, %d", err, report.ExitCode())
	}
}

// A policy archive that was changed is found also where manifest and signature were made to fit.
func TestChangedPolicyInABundleIsFound(t *testing.T) {
	s := newScene(t)
	for kind, whole := range s.bundles(t) {
		archives := 0
		changed := repack(t, whole, func(files map[string][]byte, _ *[]string) {
			for name, text := range files {
				if strings.HasPrefix(name, "policies/") {
					archives++
					files[name] = append(bytes.Clone(text[:len(text)-1]), text[len(text)-1]^1)
				}
			}
			remanifest(t, files, nil, s.w.keys)
		})
		if archives == 0 {
			continue // nothing was decided
		}
		report := verifyBundle(t, changed, Options{Trust: s.plain})
		if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Class == ClassPolicy && f.Severity == Tampered }) {
			t.Errorf("%s: %s", kind, printed(report))
		}
		report = verifyBundle(t, changed, Options{Trust: s.plain, skip: skips{policies: true}})
		if slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Class == ClassPolicy }) {
			t.Errorf("%s: something else tells:\n%s", kind, printed(report))
		}
	}
}
