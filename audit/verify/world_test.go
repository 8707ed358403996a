package verify

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"sallyport/audit"
	"sallyport/audit/audittest"
	"sallyport/audit/tree"
)

const testOrigin = "corp.example/audit"

// rounds is how often a repeating test repeats: SALLYPORT_ROUNDS, or few enough for every day.
func rounds(t testing.TB, few int) int {
	t.Helper()
	text := os.Getenv("SALLYPORT_ROUNDS")
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SALLYPORT_ROUNDS=%q is not a number of rounds", text)
	}
	return n
}

// randomness prints its seed, so that a failure can be repeated with SALLYPORT_SEED.
func randomness(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// keys stands for the key process: it signs what grows from what it signed last.
type keys struct {
	seed     byte
	retiring []byte // seeds of keys that sign too

	mu   sync.Mutex
	last map[string]tree.Checkpoint // by log
	all  map[string][][]byte        // every note, by log
	down bool
}

func newKeys(seed byte) *keys {
	k := &keys{seed: seed, last: map[string]tree.Checkpoint{}, all: map[string][][]byte{}}
	for _, log := range []string{audit.DecisionLog, audit.ControlLog} {
		k.last[log] = tree.Checkpoint{Origin: testOrigin + "/" + log, Root: tree.EmptyRoot}
	}
	return k
}

func (k *keys) private(name string) ed25519.PrivateKey {
	seed := sha256.Sum256(append([]byte{k.seed}, name...))
	return ed25519.NewKeyFromSeed(seed[:])
}

func (k *keys) signNote(name, text string) []byte {
	var signers []note.Signer
	for _, seed := range append([]byte{k.seed}, k.retiring...) {
		one := &keys{seed: seed}
		verifier, err := note.NewVerifier(one.vkey(name))
		if err != nil {
			panic(err)
		}
		signers = append(signers, &noteSigner{name, verifier.KeyHash(), one.private(name)})
	}
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		panic(err)
	}
	return signed
}

func (k *keys) vkey(name string) string {
	vkey, err := tree.VerifierKey(name, k.private(name).Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return vkey
}

type noteSigner struct {
	name string
	hash uint32
	key  ed25519.PrivateKey
}

func (s *noteSigner) Name() string                     { return s.name }
func (s *noteSigner) KeyHash() uint32                  { return s.hash }
func (s *noteSigner) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key, text), nil }

// trustFile is the text of a trust file with the keys of both logs, of a second epoch of each, and of manifests.
func (k *keys) trustFile() string {
	var b bytes.Buffer
	for _, name := range []string{"/decision", "/control", "/decision/2", "/control/2", "/manifest"} {
		fmt.Fprintln(&b, k.vkey(testOrigin+name))
	}
	return b.String()
}

func (k *keys) trust(t testing.TB, receipts ...[]byte) *tree.Trust {
	t.Helper()
	var text strings.Builder
	text.WriteString(k.trustFile())
	for _, r := range receipts {
		text.WriteString("\n" + string(r))
	}
	trust, err := tree.ParseTrust([]byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func (k *keys) Position(_ context.Context, log string) (tree.Checkpoint, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		return tree.Checkpoint{}, errors.New("the key process is down")
	}
	return k.last[log], nil
}

func (k *keys) Sign(_ context.Context, log string, next tree.Checkpoint, oldSize uint64, proof []tree.Hash) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := k.last[log]
	if k.down || next.Origin != last.Origin || oldSize != last.Size {
		return nil, fmt.Errorf("not signing %d after %d", next.Size, oldSize)
	}
	if err := tree.VerifyConsistency(last.Size, next.Size, last.Root, next.Root, proof); err != nil {
		return nil, err
	}
	k.last[log] = next
	signed := k.signNote(next.Origin, string(next.Body()))
	k.all[log] = append(k.all[log], signed)
	return signed, nil
}

// machine is an audittest.Machine as audit wants it, which remembers the names of all files.
type machine struct {
	*audittest.Machine
	names *names
}

type names struct {
	mu  sync.Mutex
	all map[string]bool
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[name] = true
}

func (m *machine) OpenFile(name string, flag int) (audit.File, error) {
	f, err := m.Machine.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	m.names.add(name)
	return f, nil
}

func (m *machine) Rename(from, to string) error {
	m.names.add(to)
	return m.Machine.Rename(from, to)
}

func (m *machine) Lock(name string) (io.Closer, error) {
	l, err := m.Machine.Lock(name)
	if errors.Is(err, audittest.ErrHeld) {
		return nil, audit.ErrLocked
	}
	return l, err
}

// world is a gateway's audit directory through its life, without a gateway.
type world struct {
	t     testing.TB
	rnd   *rand.Rand
	keys  *keys
	disk  *audittest.Disk
	names *names
	cfg   audit.Config
	step  atomic.Int64 // what the wall clock is off by

	archive  []byte
	outages  int
	steps    int
	crashes  int
	unsigned int // times that the key process did not answer, and tiles were not made durable with a checkpoint
	runs     int
	appended atomic.Int64
	ids      []string
}

func newWorld(t testing.TB, rnd *rand.Rand) *world {
	w := &world{t: t, rnd: rnd, keys: newKeys(1), disk: audittest.NewDisk(rnd), names: &names{all: map[string]bool{}}, archive: []byte("a policy archive")}
	w.cfg = audit.Config{Dir: "unused", SegmentSize: 1 << 20, Origin: testOrigin, Seal: true}
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.step.Load())) }

// run is one run of a gateway, with what happens in it; inside a synctest bubble.
func (w *world) run(happens func(a *audit.Audit, m *machine)) {
	w.runs++
	m := &machine{w.disk.Boot(-1, w.rnd.IntN(2) == 0), w.names}
	a, err := audit.Open(w.cfg, audit.Options{FS: m, Now: w.now, Log: slog.New(slog.DiscardHandler), Replica: "gw1"})
	if err != nil {
		w.t.Fatalf("run %d: %v", w.runs, err)
	}
	if err := a.KeepPolicy(digestOf(w.archive), w.archive); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Keep(ctx, audit.Keeping{Signer: w.keys}) })
	w.record(a, "started")
	happens(a, m)
	cancel()
	wg.Wait()
	_ = a.Close() // after a crash it has something to say
	w.disk.Stop()
	synctest.Wait()
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// decide appends decisions, some of them at once.
func (w *world) decide(a *audit.Audit, n int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		size := 20 + w.rnd.IntN(600)
		r := decisionRecord(fmt.Sprintf("/doc/%d", i), size, digestOf(w.archive))
		one := func() {
			receipt, err := a.Decisions().Append(context.Background(), r)
			if err == nil {
				w.appended.Add(1)
				mu.Lock()
				w.ids = append(w.ids, receipt.ID)
				mu.Unlock()
			}
		}
		if w.rnd.IntN(3) == 0 {
			wg.Go(one)
		} else {
			one()
		}
	}
	wg.Wait()
}

// decisionRecord is a decision that oracle agrees with.
func decisionRecord(path string, size int, digest string) *audit.Record {
	allow := len(path)%2 == 0
	r := &audit.Record{Type: audit.TypeDecision, App: "wiki", RequestID: "r" + path, Session: "s1", Effect: audit.Deny, Reason: "policy",
		Input:    fmt.Appendf(nil, `{"path":%q,"pad":%q}`, path, bytes.Repeat([]byte("x"), size)),
		Decision: fmt.Appendf(nil, `{"allow":%v}`, allow), Policy: audit.Policy{Digest: digest, Revision: "1"}}
	if allow {
		r.Effect, r.Reason = audit.Allow, "allow"
	}
	return r
}

func (w *world) control(a *audit.Audit, n int) {
	for range n {
		w.record(a, "login")
	}
}

func (w *world) record(a *audit.Audit, code string) {
	_, _ = a.Control().Append(context.Background(), &audit.Record{Type: audit.TypeControl, Code: code, Actor: &audit.Actor{Kind: "user", ID: "p|u", Name: "a@b.example"}})
}

// outage makes the disk full for a while.
func (w *world) outage(a *audit.Audit, m *machine) {
	m.SetFault(func(op, _ string) error {
		if op == "read" || op == "size" {
			return nil
		}
		return syscall.ENOSPC
	})
	w.decide(a, 2)
	for range 3 {
		_ = a.Decisions().Post(context.Background(), &audit.Record{Type: audit.TypeOutcome, App: "wiki", Outcome: &audit.Outcome{Of: "x", Status: 200}})
		time.Sleep(2 * time.Second)
	}
	time.Sleep(time.Duration(w.rnd.IntN(200)) * time.Second)
	m.SetFault(nil)
	time.Sleep(10 * time.Second)
	w.outages++
}

// files are the directory's files as they are on the disk.
func (w *world) files() map[string][]byte {
	m := &machine{w.disk.Boot(-1, false), &names{all: map[string]bool{}}}
	all := map[string][]byte{}
	for name := range maps.Clone(w.names.all) {
		f, err := m.OpenFile(name, os.O_RDONLY)
		if err != nil {
			continue
		}
		size, _ := f.Size()
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			w.t.Fatal(err)
		}
		all[name] = b
	}
	for log := range w.keys.all {
		if all[log+"/tail"] == nil {
			w.t.Logf("no tail of %s", log)
		}
	}
	return all
}

// store writes files into a folder.
func store(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// verifyFiles verifies a directory with these files.
func verifyFiles(t testing.TB, files map[string][]byte, opts Options) *Report {
	t.Helper()
	dir, err := os.MkdirTemp(scratch(), "verify-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store(t, dir, files)
	report, err := Run(context.Background(), dir, opts)
	if err != nil && report.Result != CannotRun || report == nil {
		t.Fatalf("an error without its result: %v", err)
	}
	return report
}

// scratch is where many small folders are made and removed: in memory where that is there.
func scratch() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func printed(r *Report) string {
	var b bytes.Buffer
	if err := r.Print(&b); err != nil {
		panic(err)
	}
	return b.String()
}

// oracle is a policy for tests: a path of even length is allowed.
type oracle struct{ opened atomic.Int64 }

func (o *oracle) Open(string, []byte) (Decider, error) {
	o.opened.Add(1)
	return o, nil
}

func (o *oracle) Decide(_ context.Context, input, changed []byte) Verdict {
	path := pathOf(input)
	if p := pathOf(changed); p != "" {
		path = p
	}
	if len(path)%2 == 0 {
		return Verdict{Allow: true, Reason: "allow", Decision: []byte(`{"allow":true}`)}
	}
	return Verdict{Reason: "policy", Decision: []byte(`{ "allow" : false }`)}
}

func pathOf(input []byte) string {
	_, rest, _ := bytes.Cut(input, []byte(`"path":"`))
	path, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(path)
}
