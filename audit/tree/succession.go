package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Succession is the statement that another key signs under a name from now on. It is a note whose text is
//
//	<name>
//	sallyport key succession v1
//	old <verifier key>
//	new <verifier key>
//	size <leaves that were signed last under the name>
//	root <root of that tree, in base64>
//
// and which both keys signed: the old one says who follows it, and the new one that somebody has it.
type Succession struct {
	Origin   string // the name, with the number of its epoch
	Old, New string // verifier keys
	Size     uint64
	Root     Hash
}

// successionTitle is the second line. No checkpoint has it there: theirs is a number.
const successionTitle = "sallyport key succession v1"

// Text is what is signed.
func (s Succession) Text() []byte {
	return fmt.Appendf(nil, "%s\n%s\nold %s\nnew %s\nsize %d\nroot %s\n", s.Origin, successionTitle, s.Old, s.New, s.Size, s.Root)
}

// OpenSuccession reads a note that Text and two signatures make, and checks both. Whether the old key is one to believe,
// [Trust.Follow] says. Errors are [ErrMalformed], [ErrUntrusted] where a signature is missing, and [ErrBadSignature].
func OpenSuccession(signed []byte) (Succession, error) {
	s, err := parseSuccession(signed)
	if err != nil {
		return Succession{}, err
	}
	both := &Trust{}
	var verifiers []note.Verifier
	for _, vkey := range []string{s.Old, s.New} {
		v, err := both.addKey(vkey)
		if err != nil {
			return Succession{}, err
		}
		if v == nil || v.Name() != s.Origin {
			return Succession{}, fmt.Errorf("%w note about a change of keys: it wants two keys of %q", ErrMalformed, s.Origin)
		}
		verifiers = append(verifiers, v)
	}
	for _, v := range verifiers { // each alone: a note is open as soon as one signature fits
		one := &Trust{keys: note.VerifierList(v)}
		if _, _, err := one.OpenNote(signed); err != nil {
			return Succession{}, fmt.Errorf("change of the key of %q: %w", s.Origin, err)
		}
	}
	return s, nil
}

func parseSuccession(signed []byte) (Succession, error) {
	bad := fmt.Errorf("%w note about a change of keys", ErrMalformed)
	text, _, ok := strings.Cut(string(signed), "\n\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) != 6 || lines[1] != successionTitle || !printable(signed) {
		return Succession{}, bad
	}
	value := func(i int, name string) string { return strings.TrimPrefix(lines[i], name+" ") }
	s := Succession{Origin: lines[0], Old: value(2, "old"), New: value(3, "new")}
	var err1 error
	s.Size, err1 = parseNumber(value(4, "size"))
	err2 := s.Root.UnmarshalText([]byte(value(5, "root")))
	if err := errors.Join(err1, err2); err != nil {
		return Succession{}, fmt.Errorf("%w: %w", bad, err)
	}
	if string(s.Text()) != text+"\n" || s.Size == 0 && s.Root != EmptyRoot {
		return Succession{}, bad
	}
	return s, nil
}

// Follow trusts the new key of a change too, where the old one is trusted; ok is false where it is not, or nothing is new.
func (t *Trust) Follow(s Succession) (next *Trust, ok bool) {
	if !slices.Contains(t.vkeys, s.Old) || slices.Contains(t.vkeys, s.New) {
		return t, false
	}
	next = &Trust{vkeys: slices.Clone(t.vkeys), receipts: t.receipts}
	if _, err := next.addKey(s.New); err != nil {
		return t, false
	}
	var verifiers []note.Verifier
	for _, vkey := range next.vkeys {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return t, false // it was read before
		}
		verifiers = append(verifiers, v)
	}
	next.keys = note.VerifierList(verifiers...)
	return next, true
}

// Trusts tells whether a verifier key is among the trusted ones.
func (t *Trust) Trusts(vkey string) bool { return slices.Contains(t.vkeys, vkey) }

// SplitNotes splits signed notes that stand one after another with an empty line between them.
func SplitNotes(text string) (notes [][]byte) {
	for text != "" {
		body, rest, _ := strings.Cut(text, "\n\n")
		signatures, more, found := strings.Cut(rest, "\n\n")
		if found {
			signatures += "\n"
		}
		notes, text = append(notes, []byte(body+"\n\n"+signatures)), more
	}
	return notes
}
