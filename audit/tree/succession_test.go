package tree

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

const handedOver = "corp.example/audit/control"

// handOver is a note about a change from one key to another.
func handOver(t testing.TB, s Succession, by ...signer) []byte {
	t.Helper()
	var signers []note.Signer
	for _, k := range by {
		signers = append(signers, k.Signer)
	}
	signed, err := note.Sign(&note.Note{Text: string(s.Text())}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Trust goes from a key to the one that follows if both signed, and to no other.
func TestTrustIsHandedOver(t *testing.T) {
	from, to, third := newSigner(t, handedOver, 1), newSigner(t, handedOver, 2), newSigner(t, handedOver, 3)
	other := newSigner(t, "other.example/audit/control", 4)
	s := Succession{Origin: handedOver, Old: from.vkey, New: to.vkey, Size: 7, Root: Hash{1}}
	got, err := OpenSuccession(handOver(t, s, from, to))
	if err != nil || got != s {
		t.Fatalf("got %+v %v, want %+v", got, err, s)
	}
	if got, err := OpenSuccession(handOver(t, s, to, third, from)); err != nil || got != s {
		t.Errorf("with a signature besides: got %+v %v", got, err)
	}
	before := trust(t, from.vkey)
	after, ok := before.Follow(s)
	if !ok || !after.Trusts(to.vkey) || before.Trusts(to.vkey) {
		t.Errorf("followed %v: %v, and the trust of before is %v", ok, after.Keys(), before.Keys())
	}
	checkpoint := sign(t, Checkpoint{Origin: handedOver, Size: 9, Root: Hash{2}}, to)
	if _, err := after.Open(checkpoint); err != nil {
		t.Errorf("a checkpoint of the new key: %v", err)
	}
	if _, err := before.Open(checkpoint); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a checkpoint of the new key before: %v", err)
	}
	if _, ok := trust(t, third.vkey).Follow(s); ok {
		t.Error("a trust file without the old key follows")
	}
	foreign := s
	foreign.New = other.vkey
	for name, signed := range map[string][]byte{
		"the new key only":      handOver(t, s, to),
		"the old key only":      handOver(t, s, from),
		"a third for the new":   handOver(t, s, from, third),
		"a third for the old":   handOver(t, s, third, to),
		"a key of another name": handOver(t, foreign, from, other),
		"to itself":             handOver(t, Succession{Origin: handedOver, Old: from.vkey, New: from.vkey, Size: 7, Root: Hash{1}}, from),
		"nothing with a root":   handOver(t, Succession{Origin: handedOver, Old: from.vkey, New: to.vkey, Root: Hash{1}}, from, to),
		"a checkpoint":          sign(t, Checkpoint{Origin: handedOver, Size: 9, Root: Hash{2}}, from, to),
	} {
		if got, err := OpenSuccession(signed); err == nil {
			t.Errorf("signed by %s: got %+v, want an error", name, got)
		}
	}
	// No byte of it can be another.
	signed := handOver(t, s, from, to)
	for i := range signed {
		changed := bytes.Clone(signed)
		changed[i] ^= 1
		if got, err := OpenSuccession(changed); err == nil {
			t.Errorf("byte %d: got %+v, want an error", i, got)
		}
	}
}

// Notes that stand one after another come apart as they were put together.
func TestNotesComeApart(t *testing.T) {
	from, to := newSigner(t, handedOver, 1), newSigner(t, handedOver, 2)
	var notes []string
	for size := range uint64(3) {
		s := Succession{Origin: handedOver, Old: from.vkey, New: to.vkey, Size: size + 1, Root: Hash{1}}
		notes = append(notes, string(handOver(t, s, from, to)))
		got := SplitNotes(strings.Join(notes, "\n"))
		if len(got) != len(notes) {
			t.Fatalf("got %d notes, want %d", len(got), len(notes))
		}
		for i := range got {
			if string(got[i]) != notes[i] {
				t.Errorf("note %d of %d: got %q, want %q", i, len(notes), got[i], notes[i])
			}
		}
	}
}
