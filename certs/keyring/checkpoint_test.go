package keyring_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/keyd/keydtest"
	"sallyport/certs/keyring"
)

const decision, control = "corp.example/audit/decision", "corp.example/audit/control"

// auditKeys are what signs notes, next to the other keys.
func auditKeys(t testing.TB) []keydtest.Key {
	t.Helper()
	list := keys(t)
	for _, k := range []keydtest.Key{
		{Name: "decisions", Purpose: "checkpoint", Origins: []string{decision}},
		{Name: "controls", Purpose: "checkpoint", Origins: []string{control}},
		{Name: "evidence", Purpose: "manifest", Origins: []string{"corp.example/audit/manifest"}},
	} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		k.Private = private
		list = append(list, k)
	}
	return list
}

// verifiers are the keys that keyd names, as an auditor's trust file has them.
func verifiers(t testing.TB, c *keyring.Client) note.Verifiers {
	t.Helper()
	lines, err := c.VerifierKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []note.Verifier
	for _, line := range lines {
		v, err := note.NewVerifier(line)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return note.VerifierList(list...)
}

// grow has the log signed up to size n, from where keyd is.
func grow(t testing.TB, c *keyring.Client, log *keydtest.Log, base string, n uint64) []byte {
	t.Helper()
	p, err := c.CheckpointPosition(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := c.SignCheckpoint(t.Context(), body(log, p, n), p.Size, log.Proof(p.Size, n))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func body(log *keydtest.Log, p keyring.Position, n uint64) []byte {
	if p.Previous != "" {
		return log.Body(p.Origin, n, p.Previous)
	}
	return log.Body(p.Origin, n)
}

func TestCheckpointsComeAsNotes(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, auditKeys(t)...)
	p := s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	known := verifiers(t, c)
	log := keydtest.NewLog(t, "log")
	for _, base := range []string{decision, control} {
		for _, n := range []uint64{0, 1, 1, 6, 1000} {
			signed := grow(t, c, log, base, n)
			opened, err := note.Open(signed, known)
			if err != nil || opened.Text != string(log.Body(base, n)) || opened.Sigs[0].Name != base {
				t.Errorf("%s at %d: got %q %v", base, n, signed, err)
			}
		}
		if pos, err := c.CheckpointPosition(t.Context(), base); err != nil || pos != (keyring.Position{Origin: base, Size: 1000, Root: log.Root(1000)}) {
			t.Errorf("position %+v %v", pos, err)
		}
	}

	_, err := c.SignCheckpoint(t.Context(), log.Body(decision, 2000), 6, log.Proof(6, 2000))
	conflict, ok := errors.AsType[*keyring.Conflict](err)
	if !errors.Is(err, keyring.ErrConflict) || !ok || conflict.Position != (keyring.Position{Origin: decision, Size: 1000, Root: log.Root(1000)}) {
		t.Errorf("from another size: got %v %+v, want a conflict at 1000", err, conflict)
	}
	fork := log.Fork(999, "fork")
	for name, err := range map[string]error{
		"fork":           second(c.SignCheckpoint(t.Context(), fork.Body(decision, 2000), 1000, fork.Proof(1000, 2000))),
		"smaller":        second(c.SignCheckpoint(t.Context(), log.Body(decision, 6), 1000, nil)),
		"another origin": second(c.SignCheckpoint(t.Context(), log.Body("corp.example/other", 6), 0, nil)),
	} {
		if !errors.Is(err, keyring.ErrRefused) {
			t.Errorf("%s: got %v, want %v", name, err, keyring.ErrRefused)
		}
	}
	if _, err := c.SignCheckpoint(t.Context(), []byte("rubbish"), 0, nil); err == nil {
		t.Error("rubbish was signed")
	}
	if _, err := c.CheckpointPosition(t.Context(), "corp.example/other"); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("position of another log: got %v, want %v", err, keyring.ErrNoKey)
	}

	// A log that cannot continue goes on under another name, which the same client learns.
	p.Kill()
	s.NewEpoch(t, "--log", "decision")
	s.Start(t)
	keydtest.Eventually(t, "the client is back", c.Ready)
	anew := keydtest.NewLog(t, "anew")
	for _, n := range []uint64{3, 5} {
		opened, err := note.Open(grow(t, c, anew, decision, n), verifiers(t, c))
		if err != nil || !strings.HasPrefix(opened.Text, decision+"/2\n") || !strings.Contains(opened.Text, "\nprevious "+decision+" 1000 ") {
			t.Errorf("successor at %d: got %+v %v", n, opened, err)
		}
	}
	if lines, err := c.VerifierKeys(t.Context()); err != nil || len(lines) != 4 {
		t.Errorf("got verifier keys %v %v, want both epochs, the other log and the manifests", lines, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestManifestsComeAsNotes(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, auditKeys(t)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	signed, err := c.SignManifest(t.Context(), [32]byte{0xab})
	if err != nil {
		t.Fatal(err)
	}
	want := "corp.example/audit/manifest\nsallyport evidence manifest v1\nsha256 ab" + strings.Repeat("00", 31) + "\n"
	if opened, err := note.Open(signed, verifiers(t, c)); err != nil || opened.Text != want {
		t.Errorf("got %+v %v, want %q", opened, err, want)
	}
}

// A keyd whose configuration is from before there were such keys says so, in words that help.
func TestKeydWithoutAuditKeys(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, keys(t)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	for name, err := range map[string]error{
		"position":   second(c.CheckpointPosition(t.Context(), decision)),
		"checkpoint": second(c.SignCheckpoint(t.Context(), keydtest.NewLog(t, "log").Body(decision, 1), 0, nil)),
		"manifest":   second(c.SignManifest(t.Context(), [32]byte{})),
	} {
		if !errors.Is(err, keyring.ErrNoKey) || !errors.Is(err, keyring.ErrRefused) {
			t.Errorf("%s: got %v, want %v", name, err, keyring.ErrNoKey)
		}
	}
	if lines, err := c.VerifierKeys(t.Context()); err != nil || len(lines) > 0 {
		t.Errorf("got %v %v, want no verifier keys", lines, err)
	}
}

// A keyd that lost what it knew of a log says so instead of signing it from the start.
func TestKeydThatLostItsState(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, auditKeys(t)...)
	if err := os.Remove(filepath.Join(s.Dir, "state", "checkpoint-corp.example~audit~decision")); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	if _, err := c.CheckpointPosition(t.Context(), decision); !errors.Is(err, keyring.ErrRefused) || !strings.Contains(err.Error(), "state file") {
		t.Errorf("position: got %v, want a refusal about the state file", err)
	}
	log := keydtest.NewLog(t, "log")
	if _, err := c.SignCheckpoint(t.Context(), log.Body(decision, 1), 0, nil); !errors.Is(err, keyring.ErrRefused) {
		t.Errorf("checkpoint: got %v, want %v", err, keyring.ErrRefused)
	}
	grow(t, c, log, control, 3)
}

// KEY-14, KEY-10: keyd is killed while a checkpoint is under way. The request goes to the next keyd, which may have noted it
// already, and there is one history.
func TestCheckpointSurvivesARestart(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, auditKeys(t)...)
	p := s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	log := keydtest.NewLog(t, "log")
	log.Root(100)
	for n := uint64(1); n <= 8; n++ {
		done := make(chan error, 1)
		go func() { done <- second(c.SignCheckpoint(t.Context(), log.Body(decision, n), n-1, log.Proof(n-1, n))) }()
		p.Kill()
		p = s.Start(t)
		if err := <-done; err != nil {
			t.Fatalf("size %d: %v", n, err)
		}
	}
	if pos, err := c.CheckpointPosition(t.Context(), decision); err != nil || pos.Size != 8 || pos.Root != log.Root(8) {
		t.Errorf("position %+v %v, want 8", pos, err)
	}
}

// Many ask at once for the same growth, as replicas of a mistake would: all get the one signature there is, or learn where
// the log is.
func TestConcurrentCheckpointsAreOneHistory(t *testing.T) {
	t.Parallel()
	s := keydtest.Make(t, 0, []int{0}, auditKeys(t)...)
	s.Start(t)
	c := open(t, keyring.Config{Socket: s.Socket})
	logs := []*keydtest.Log{keydtest.NewLog(t, "one"), keydtest.NewLog(t, "other")}
	var bodies [][]byte
	for _, l := range logs {
		bodies = append(bodies, l.Body(decision, 5))
	}
	var mu sync.Mutex
	won := map[int]int{}
	var asking sync.WaitGroup
	for i := range 40 {
		asking.Go(func() {
			signed, err := c.SignCheckpoint(t.Context(), bodies[i%2], 0, nil)
			if err != nil && !errors.Is(err, keyring.ErrConflict) {
				t.Errorf("got %v, want a signature or a conflict", err)
			}
			if err == nil && bytes.HasPrefix(signed, bodies[i%2]) {
				mu.Lock()
				defer mu.Unlock()
				won[i%2]++
			}
		})
	}
	asking.Wait()
	if len(won) != 1 || won[0]+won[1] != 20 {
		t.Errorf("signatures by history: %v, want 20 of one", won)
	}
}

// BenchmarkSignCheckpoint is a checkpoint that grows by one leaf, as a gateway pays for it: two syncs of keyd's disk
// included.
func BenchmarkSignCheckpoint(b *testing.B) {
	s := keydtest.Make(b, 0, []int{0}, auditKeys(b)...)
	s.Start(b)
	c := open(b, keyring.Config{Socket: s.Socket})
	log := keydtest.NewLog(b, "log")
	n := uint64(0)
	for b.Loop() {
		b.StopTimer()
		body, proof := log.Body(decision, n+1), log.Proof(n, n+1)
		b.StartTimer()
		if _, err := c.SignCheckpoint(b.Context(), body, n, proof); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
