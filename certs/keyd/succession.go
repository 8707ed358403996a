package keyd

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"sallyport/certs/internal/wire"
)

// maxSuccessions bounds how many changes of its key are told of a log. The audit log has them all.
const maxSuccessions = 16

// ledgersOf are the ledgers of a checkpoint key. All its generations share them, or there would be two histories.
func (s *slots) ledgersOf(kc KeyConfig) ledgers {
	if kc.Purpose != wire.Checkpoints {
		return nil
	}
	var all ledgers
	for _, base := range kc.Origins {
		if s.ledgers[base] == nil {
			s.ledgers[base] = openLedger(base, s.state)
		}
		all = append(all, s.ledgers[base])
	}
	return all
}

// equip has the logs signed by the current key and, so that trust files of before keep working, by those that retire.
func (s *slots) equip() error {
	for _, sl := range s.list {
		if sl.Purpose != wire.Checkpoints {
			continue
		}
		var privates []crypto.Signer
		for _, st := range []stage{current, retiring} {
			for _, g := range sl.state.Generations {
				if g.Stage == st {
					privates = append(privates, sl.live[g.Number].private)
				}
			}
		}
		for _, l := range s.ledgersOf(sl.KeyConfig) {
			if err := l.signWith(privates...); err != nil {
				return fmt.Errorf("key %q: %w", sl.Name, err)
			}
		}
	}
	return nil
}

// handOver states, for each name under which the slot's keys sign, that another key follows: a note that both sign. It is
// on disk before the other key is used.
func (s *slots) handOver(sl *slot, number int) error {
	old, ok := sl.state.find(current)
	if !ok {
		return errors.New("BUG: no key to follow")
	}
	before, after := sl.live[old.Number].private, sl.live[number].private
	for _, base := range sl.Origins {
		last := wire.Checkpoint{Origin: base, Root: emptyRoot}
		if sl.Purpose == wire.Checkpoints {
			state, err := s.ledgers[base].position()
			if err != nil {
				return err
			}
			last = state.last
		}
		signed, err := signSuccession(last, before, after)
		if err != nil {
			return err
		}
		if err := s.keepSuccession(base, signed); err != nil {
			return fmt.Errorf("keeping the succession of %s: %w", base, err)
		}
	}
	return nil
}

// signSuccession returns the note that hands an origin over, signed by both keys.
func signSuccession(last wire.Checkpoint, before, after crypto.Signer) ([]byte, error) {
	from, err := newNoteSigner(last.Origin, before)
	if err != nil {
		return nil, err
	}
	to, err := newNoteSigner(last.Origin, after)
	if err != nil {
		return nil, err
	}
	oldKey, err := verifierKey(last.Origin, before.Public())
	if err != nil {
		return nil, err
	}
	newKey, err := verifierKey(last.Origin, after.Public())
	if err != nil {
		return nil, err
	}
	text := wire.SuccessionText(last, oldKey, newKey)
	return note.Sign(&note.Note{Text: string(text)}, from, to)
}

// keepSuccession adds a note to those of an origin. One that a killed keyd made of the same change is replaced: nobody has
// seen it.
func (s *slots) keepSuccession(base string, signed []byte) error {
	notes, err := s.successions(base)
	if err != nil {
		return err
	}
	if n := len(notes); n > 0 && sameChange(notes[n-1], string(signed)) {
		notes = notes[:n-1]
	}
	notes = append(notes, string(signed))
	notes = notes[max(0, len(notes)-maxSuccessions):]
	return replaceFile(s.state, successionFile(base), []byte(strings.Join(notes, "\n")))
}

// successions are the notes about an origin, the oldest first. They say of themselves who signed them; what is damaged
// convinces nobody.
func (s *slots) successions(base string) ([]string, error) {
	data, err := s.state.Read(successionFile(base))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return wire.SplitNotes(string(data)), nil
}

// sameChange compares two notes by their first four lines: origin, title, old and new key.
func sameChange(a, b string) bool {
	x, y := strings.SplitN(a, "\n", 5), strings.SplitN(b, "\n", 5)
	return len(x) == 5 && len(y) == 5 && strings.Join(x[:4], "\n") == strings.Join(y[:4], "\n")
}

func successionFile(base string) string { return "succession-" + strings.ReplaceAll(base, "/", "~") }

// succession answers sign_succession: all that is known of changes of the key that signs under an origin as configured.
func (s *slots) succession(id wire.KeyID, base string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.list {
		for _, k := range sl.live {
			if k.id != id {
				continue
			}
			if slices.Contains(sl.Origins, base) {
				notes, err := s.successions(base)
				return []byte(strings.Join(notes, "\n")), err
			}
			return nil, refusal("key " + sl.Name + ": this key has no such origin")
		}
	}
	return nil, errNoKey
}
