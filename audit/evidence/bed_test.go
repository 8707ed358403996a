package evidence

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/audit"
	"sallyport/audit/tree"
)

// rounds is how often a random test repeats.
func rounds(t testing.TB, fallback int) int {
	n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS"))
	if err != nil {
		return fallback
	}
	return n
}

func newRandom(t testing.TB) *mathrand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// archive is a source in memory.
type archive struct {
	records  map[string][][]byte
	oldest   map[string]uint64
	policies map[string][]byte
	read     int // records handed out
}

// policyText is the archive that all decisions of the tests name.
var policyText = []byte("a policy archive")

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// decision is the line of a decision record.
func decision(seq int, at time.Time, app string, effect audit.Effect) []byte {
	input := fmt.Sprintf(`{"subject":{"id":"corp|%d","email":"person%d@corp.example"},"note":"\",\"policy\":{\"digest\":\"x\"}"}`, seq%7, seq%7)
	return fmt.Appendf(nil, `{"v":1,"id":"00000000-0000-7000-8000-%012d","log":"decision","seq":%d,"boot":{"id":"b","n":1},"type":"decision","time":"%s","replica":"r","app":"%s","effect":"%s","reason":"policy","input":%s,"input_digest":"%s","policy":{"digest":"%s"},"decision":{"allow":true}}`,
		seq, seq, at.Format("2006-01-02T15:04:05.000000000Z"), app, effect, input, digestOf([]byte(input)), digestOf(policyText))
}

// control is the line of a control record.
func control(seq int, at time.Time, code string) []byte {
	return fmt.Appendf(nil, `{"v":1,"id":"00000000-0000-7000-9000-%012d","log":"control","seq":%d,"boot":{"id":"b","n":1},"type":"control","code":"%s","time":"%s","replica":"r"}`,
		seq, seq, code, at.Format("2006-01-02T15:04:05.000000000Z"))
}

// newArchive has n decisions and n/4 control records, one decision a minute.
func newArchive(n int) *archive {
	a := &archive{records: map[string][][]byte{}, oldest: map[string]uint64{}, policies: map[string][]byte{digestOf(policyText): policyText}}
	for i := range n {
		effect, app := audit.Allow, "wiki"
		if i%3 == 0 {
			effect = audit.Deny
		}
		if i%5 == 0 {
			app = "payroll"
		}
		a.records[audit.DecisionLog] = append(a.records[audit.DecisionLog], decision(i, epoch.Add(time.Duration(i)*time.Minute), app, effect))
	}
	for i := range n / 4 {
		a.records[audit.ControlLog] = append(a.records[audit.ControlLog], control(i, epoch.Add(time.Duration(4*i)*time.Minute), "sign_in"))
	}
	return a
}

func leaves(records [][]byte) (hashes []tree.Hash) {
	for _, r := range records {
		hashes = append(hashes, tree.HashLeaf(r))
	}
	return hashes
}

func rootOf(hashes []tree.Hash) tree.Hash {
	var f tree.Frontier
	for _, h := range hashes {
		f.Append(h)
	}
	return f.Root()
}

func (a *archive) Checkpoint(log string) ([]byte, tree.Checkpoint, error) {
	hashes := leaves(a.records[log])
	c := tree.Checkpoint{Origin: "corp.example/audit/" + log, Size: uint64(len(hashes)), Root: rootOf(hashes)}
	return append(c.Body(), "\n— corp.example/audit/x AAAA\n"...), c, nil
}

func (a *archive) Oldest(log string) (uint64, error) { return a.oldest[log], nil }

func (a *archive) Near(_ context.Context, log string, _, _ time.Time, size uint64) (uint64, uint64, error) {
	return 0, size, nil
}

func (a *archive) Records(_ context.Context, log string, first, end uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i := first; i < min(end, uint64(len(a.records[log]))); i++ {
			a.read++
			if !yield(a.records[log][i], nil) {
				return
			}
		}
	}
}

func (a *archive) RangeProof(log string, first, end, size uint64) (tree.RangeProof, error) {
	return proveRange(leaves(a.records[log][:size]), first, end), nil
}

func (a *archive) Policy(digest string) ([]byte, error) {
	if b, ok := a.policies[digest]; ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

// proveRange makes a range proof the slow way.
func proveRange(all []tree.Hash, first, end uint64) tree.RangeProof {
	p := tree.RangeProof{First: first, Last: end, Size: uint64(len(all))}
	for at := uint64(0); at < first; {
		n := uint64(1)
		for at+2*n <= first {
			n *= 2
		}
		p.Left = append(p.Left, rootOf(all[at:at+n]))
		at += n
	}
	for at := end; at < p.Size; {
		n := uint64(1)
		for at%(2*n) == 0 && at+2*n <= p.Size {
			n *= 2
		}
		p.Right = append(p.Right, rootOf(all[at:at+n]))
		at += n
	}
	return p
}

const keyName = "corp.example/audit/manifest"

// newSigner signs as the key process does, always by the same key within a test.
func newSigner(t testing.TB) (sign func([sha256.Size]byte) ([]byte, error), vkey string) {
	skey, vkey, err := note.GenerateKey(rand.Reader, keyName)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return func(sum [sha256.Size]byte) ([]byte, error) {
		return note.Sign(&note.Note{Text: NoteText(keyName, sum)}, signer)
	}, vkey
}

func options(t testing.TB) Options {
	sign, _ := newSigner(t)
	return Options{Created: epoch.Add(1000 * time.Hour), Who: "uid:1000 ada", Program: "sallyport test", Sign: sign, partSize: 4096}
}

// bundleBytes is a bundle of src.
func bundleBytes(t testing.TB, src Source, opts Options) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Write(t.Context(), &b, src, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// openBytes opens a bundle from a file of its own.
func openBytes(t testing.TB, b []byte) (*Bundle, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bundle.zip")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	bundle, err := Open(name)
	if err == nil {
		t.Cleanup(func() { bundle.Close() })
	}
	return bundle, err
}

func mustOpen(t testing.TB, b []byte) *Bundle {
	t.Helper()
	bundle, err := openBytes(t, b)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// problems is everything a verifier would find in the files and the records of a bundle.
func problems(b *Bundle) []Problem {
	found := b.CheckFiles()
	for _, l := range b.Manifest().Logs {
		for _, err := range b.Records(l.Log) {
			if err == nil {
				continue
			}
			if p, ok := errors.AsType[*Problem](err); ok {
				found = append(found, *p)
			} else {
				panic(err)
			}
		}
	}
	return found
}

func has(found []Problem, kind Kind, name string) bool {
	return slices.ContainsFunc(found, func(p Problem) bool { return p.Kind == kind && p.Name == name })
}

// verified checks the records of every log against its root, as a verifier does.
func verified(t testing.TB, b *Bundle, src *archive) {
	t.Helper()
	for _, p := range problems(b) {
		t.Errorf("problem: %v", &p)
	}
	for _, l := range b.Manifest().Logs {
		proof, err := b.RangeProof(l.Log)
		if err != nil {
			t.Fatal(err)
		}
		hashes := func(yield func(tree.Hash) bool) {
			for leaf, err := range b.Records(l.Log) {
				if err != nil {
					t.Fatal(err)
				}
				if !yield(leaf.LeafHash()) {
					return
				}
			}
		}
		signed, c, err := src.Checkpoint(l.Log)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.VerifyRange(proof, c.Root, hashes); err != nil {
			t.Errorf("%s: %v", l.Log, err)
		}
		if got, err := b.Checkpoint(l.Log); err != nil || !bytes.Equal(got, signed) {
			t.Errorf("%s: checkpoint %q, %v", l.Log, got, err)
		}
	}
}

func contains(word string) func([]byte) bool {
	return func(raw []byte) bool { return strings.Contains(string(raw), word) }
}

func names(b *Bundle) []string { return slices.Sorted(maps.Keys(b.members)) }
