// Package tessera lets other implementations judge what audit/tree publishes: Tessera's fsck reads a folder over HTTP and
// computes every tile and the root anew from the entry bundles; torchwood checks proof files.
//
// With TILES set, `go test -run TestFolder` checks the folder of that (absolute) name instead of one of its own. ORIGIN and
// VKEY then say whose log it has to be.
package tessera

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"sallyport/audit/tree"
)

const origin = "corp.example/audit/decision"

// check lets Tessera judge a folder.
func check(ctx context.Context, folder, origin, vkey string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	defer server.Close()
	base, err := url.Parse(server.URL + "/")
	if err != nil {
		return err
	}
	fetcher, err := client.NewHTTPFetcher(base, server.Client())
	if err != nil {
		return err
	}
	return fsck.New(origin, verifier, fetcher, hashBundle, fsck.Opts{N: 4}).Check(ctx)
}

// hashBundle hashes the leaves of an entry bundle, read by Tessera.
func hashBundle(b []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(b); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range bundle.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}

// log is one that is published to a folder, with a key that was made for the test.
type log struct {
	vkey   string
	signer note.Signer
	files  tree.Files
	folder string
	hashes []tree.Hash
}

func newLog(t *testing.T, size int) *log {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	l := &log{folder: t.TempDir()}
	l.vkey, err = tree.VerifierKey(origin, public)
	must(t, err)
	hash := strings.Split(l.vkey, "+")[1]
	secret := base64.StdEncoding.EncodeToString(append([]byte{1}, private.Seed()...))
	l.signer, err = note.NewSigner("PRIVATE+KEY+" + origin + "+" + hash + "+" + secret)
	must(t, err)
	root, err := os.OpenRoot(l.folder)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	l.files = tree.RootFiles(root)
	for i := range size {
		l.hashes = append(l.hashes, tree.HashLeaf(record(i)))
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func record(i int) []byte {
	return fmt.Appendf(nil, `{"seq":%d,"app":"%s"}`, i, strings.Repeat("x", i%50))
}

// checkpoint is the signed checkpoint of the first leaves.
func (l *log) checkpoint(t *testing.T, size int) ([]byte, tree.Checkpoint) {
	t.Helper()
	var f tree.Frontier
	for _, h := range l.hashes[:size] {
		f.Append(h)
	}
	c := tree.Checkpoint{Origin: origin, Size: uint64(size), Root: f.Root()}
	signed, err := note.Sign(&note.Note{Text: string(c.Body())}, l.signer)
	must(t, err)
	return signed, c
}

func (l *log) publish(t *testing.T, size int) {
	t.Helper()
	signed, c := l.checkpoint(t, size)
	_, err := tree.Publish(l.files, tree.Source{Signed: signed, Checkpoint: c, Leaves: leavesFrom})
	must(t, err)
}

func leavesFrom(from uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for i := int(from); yield(record(i), nil); i++ {
		}
	}
}

// A folder is what Tessera expects at each size that it grows to.
func TestTesseraAcceptsWhatIsPublished(t *testing.T) {
	l := newLog(t, 70_000)
	for _, size := range []int{1, 2, 255, 256, 257, 65_536, 65_537, 70_000} {
		l.publish(t, size)
		if err := check(t.Context(), l.folder, origin, l.vkey); err != nil {
			t.Errorf("%d leaves: %v", size, err)
		}
	}
	fresh := newLog(t, 70_000)
	fresh.publish(t, 70_000)
	must(t, check(t.Context(), fresh.folder, origin, fresh.vkey))
	if err := check(t.Context(), fresh.folder, origin, l.vkey); err == nil {
		t.Error("it accepts a checkpoint by another key")
	}
}

// seeded is a seed that is printed, so that a failure can be repeated with SALLYPORT_SEED.
func seeded(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return seed
}

// One flipped bit, in whichever file, is found. That shows that the test above can fail.
func TestTesseraRefusesAFlippedBit(t *testing.T) {
	r := rand.New(rand.NewPCG(seeded(t), 0))
	l := newLog(t, 1000)
	l.publish(t, 1000)
	n := 0
	must(t, filepath.WalkDir(l.folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		whole, err := os.ReadFile(name)
		must(t, err)
		flipped := bytes.Clone(whole)
		flipped[r.IntN(significant(name, whole))] ^= 1 << r.IntN(8)
		must(t, os.WriteFile(name, flipped, 0o644))
		if err := check(t.Context(), l.folder, origin, l.vkey); err == nil {
			t.Errorf("a flipped bit in %s goes unnoticed", name)
		}
		return os.WriteFile(name, whole, 0o644)
	}))
	if n != 1+5+4 { // checkpoint, tiles of two levels, bundles
		t.Errorf("there are %d files", n)
	}
	must(t, check(t.Context(), l.folder, origin, l.vkey))
}

// significant is how many bytes of a file matter to Tessera: of a checkpoint not the last, as base64 has spare bits there.
func significant(name string, b []byte) int {
	if filepath.Base(name) == "checkpoint" {
		return len(b) - 4
	}
	return len(b)
}

// The folder that TILES names, or one of our own, is whole.
func TestFolder(t *testing.T) {
	if folder := os.Getenv("TILES"); folder != "" {
		must(t, check(t.Context(), folder, os.Getenv("ORIGIN"), os.Getenv("VKEY")))
		return
	}
	l := newLog(t, 300)
	l.publish(t, 300)
	must(t, check(t.Context(), l.folder, origin, l.vkey))
}

// torchwood accepts our proof files, and writes the same.
func TestTorchwoodAcceptsProofFiles(t *testing.T) {
	l := newLog(t, 1000)
	l.publish(t, 1000)
	signed, c := l.checkpoint(t, 1000)
	verifier, err := note.NewVerifier(l.vkey)
	must(t, err)
	policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(origin), torchwood.SingleVerifierPolicy(verifier))
	prover := tree.Prover{Files: l.files, Size: c.Size, Root: c.Root}
	for _, extra := range [][]byte{nil, {}, []byte("anything")} {
		leaf, hashes, err := prover.Inclusion(777)
		must(t, err)
		file := tree.WriteProof(tree.Proof{Index: 777, Extra: extra, Hashes: hashes, Signed: signed})
		must(t, torchwood.VerifyProof(policy, tlog.Hash(leaf), file))
		if err := torchwood.VerifyProof(policy, tlog.Hash(l.hashes[776]), file); err == nil {
			t.Error("it proves another record")
		}
		var record tlog.RecordProof
		for _, h := range hashes {
			record = append(record, tlog.Hash(h))
		}
		theirs := torchwood.FormatProof(777, record, signed)
		if extra != nil {
			theirs = torchwood.FormatProofWithExtraData(777, extra, record, signed)
		}
		if !bytes.Equal(file, theirs) {
			t.Errorf("ours is\n%s\ntheirs\n%s", file, theirs)
		}
	}
}
