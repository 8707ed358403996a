package keyd

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/certs/internal/wire"
)

// stage is how far a generation of a key has come. Stages follow on each other in this order; the announced one is left out
// by managed TLS keys and the pending one by all others.
type stage string

const (
	making     stage = "making"     // its reference may exist or not, and nobody was told of it
	pending    stage = "pending"    // a certificate is asked for; signs nothing yet
	announced  stage = "announced"  // published, so that everybody knows it before it is used
	current    stage = "current"    // the one that new signatures are made with
	retiring   stage = "retiring"   // still signs, for those who did not notice yet
	destroying stage = "destroying" // signs no more; its reference may exist or not
)

// generation is one private key of a slot.
type generation struct {
	Number int       `json:"generation"` // from 1
	ID     string    `json:"id,omitzero"`
	Stage  stage     `json:"stage"`
	Since  time.Time `json:"since"` // when the stage began
}

// signs tells whether the generation's key is open for requests.
func (g generation) signs() bool {
	return g.Stage == announced || g.Stage == current || g.Stage == retiring
}

// exists tells whether the generation's key must be in the backend.
func (g generation) exists() bool { return g.signs() || g.Stage == pending }

// elapsed is how long the stage lasts. Within one run it is measured by the monotonic clock, which nobody sets.
func (g generation) elapsed(now time.Time) time.Duration { return now.Sub(g.Since) }

// slotState is all that is known of the generations of one configured key. It is a file of the state folder as soon as
// there was more than the first, and says what is about to be done before it is done: a key that was made is never lost,
// and one that was to be destroyed never comes back. Values are not changed, but replaced.
type slotState struct {
	Name        string       `json:"name"`
	Ref         string       `json:"ref"`  // as configured: that of generation 1
	Next        int          `json:"next"` // number of the generation that is made next; none is used twice
	Generations []generation `json:"generations"`
	// Destroyed are the ids of keys that were destroyed last. One that comes back from a backup is refused.
	Destroyed []string `json:"destroyed,omitzero"`
}

const (
	slotTitle = "keyd generations v1"
	// maxDestroyed bounds how many destroyed keys are remembered.
	maxDestroyed = 64
	// maxLive bounds the generations of a slot that are not destroyed yet.
	maxLive = 8
	// maxSlotName bounds the name of a key that has generations, in bytes: it is part of a file's name.
	maxSlotName = 200
	// lostGenerations is how many references after the first are tried for where there is no state.
	lostGenerations = 32
)

// firstState is that of a key of which keyd never made another generation. Who has made its key, nobody knows.
func firstState(kc KeyConfig) slotState {
	s := slotState{Name: kc.Name, Ref: kc.ref(), Next: 2, Generations: []generation{{Number: 1, Stage: current}}}
	if kc.managesTLS() {
		s.Next, s.Generations = 1, nil
	}
	return s
}

// refOf is the reference of a generation: wiki.pem, wiki.2.pem; wiki, wiki.2.
func refOf(ref string, number int) string {
	if number == 1 {
		return ref
	}
	dot := strings.LastIndexByte(ref, '.')
	if dot <= strings.LastIndexByte(ref, '/')+1 {
		dot = len(ref)
	}
	return ref[:dot] + "." + strconv.Itoa(number) + ref[dot:]
}

// find returns the only generation of that stage; ok is false if there is none.
func (s slotState) find(st stage) (g generation, ok bool) {
	i := slices.IndexFunc(s.Generations, func(g generation) bool { return g.Stage == st })
	if i < 0 {
		return g, false
	}
	return s.Generations[i], true
}

// count is how many generations are in any of these stages.
func (s slotState) count(stages ...stage) (n int) {
	for _, g := range s.Generations {
		if slices.Contains(stages, g.Stage) {
			n++
		}
	}
	return n
}

// make is the state in which a key is about to be made, and its number.
func (s slotState) make(now time.Time) (slotState, int) {
	n := s.Next
	s.Next++
	s.Generations = append(slices.Clone(s.Generations), generation{Number: n, Stage: making, Since: now})
	return s, n
}

// to is the state in which a generation has come to a stage.
func (s slotState) to(number int, st stage, now time.Time) slotState {
	s.Generations = slices.Clone(s.Generations)
	for i := range s.Generations {
		if g := &s.Generations[i]; g.Number == number {
			g.Stage, g.Since = st, now
		}
	}
	return s
}

// named is the state that knows a generation's id.
func (s slotState) named(number int, id wire.KeyID) slotState {
	s.Generations = slices.Clone(s.Generations)
	for i := range s.Generations {
		if s.Generations[i].Number == number {
			s.Generations[i].ID = id.String()
		}
	}
	return s
}

// switched is the state in which a generation is the current one, and the one that was retires.
func (s slotState) switched(number int, now time.Time) slotState {
	if old, ok := s.find(current); ok {
		s = s.to(old.Number, retiring, now)
	}
	return s.to(number, current, now)
}

// without is the state in which a generation is gone for good.
func (s slotState) without(number int) slotState {
	i := slices.IndexFunc(s.Generations, func(g generation) bool { return g.Number == number })
	if id := s.Generations[i].ID; id != "" {
		s.Destroyed = append(slices.Clone(s.Destroyed), id)
		s.Destroyed = s.Destroyed[max(0, len(s.Destroyed)-maxDestroyed):]
	}
	s.Generations = slices.Delete(slices.Clone(s.Generations), i, i+1)
	return s
}

// encode writes the state as a line of JSON between a title and a sum, by which a half or flipped file is noticed.
func (s slotState) encode() ([]byte, error) {
	line, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	b := fmt.Appendf(nil, "%s\n%s\n", slotTitle, line)
	return fmt.Appendf(b, "sha256 %x\n", sha256.Sum256(b)), nil
}

// decodeSlot reads what encode wrote, to the byte.
func decodeSlot(data []byte) (slotState, error) {
	bad := errors.New("is damaged")
	lines := strings.Split(string(data), "\n")
	if lines[0] != slotTitle {
		return slotState{}, fmt.Errorf("is damaged or of another version: it does not begin with %q", slotTitle)
	}
	var s slotState
	if len(lines) != 4 || json.Unmarshal([]byte(lines[1]), &s) != nil {
		return slotState{}, bad
	}
	again, err := s.encode()
	if err != nil || !bytes.Equal(again, data) || !s.sound() {
		return slotState{}, bad
	}
	return s, nil
}

// sound tells whether the state is one that keyd comes to.
func (s slotState) sound() bool {
	last := 0
	for _, g := range s.Generations {
		if g.Number <= last || g.Number >= s.Next || g.exists() && g.ID == "" {
			return false
		}
		last = g.Number
	}
	return s.Next >= 1 && s.count(current) <= 1 && s.count(announced) <= 1
}

func slotFile(name string) string { return "generations-" + name }

// loadSlot reads the state of a configured key; kept is false where there never was one.
func loadSlot(store stateFolder, kc KeyConfig) (s slotState, kept bool, err error) {
	name := slotFile(kc.Name)
	data, err := store.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return firstState(kc), false, nil
	}
	if err == nil {
		s, err = decodeSlot(data)
	}
	if err == nil && s.Name != kc.Name {
		err = errors.New("is that of another key")
	}
	if err == nil && s.Ref != kc.ref() {
		err = fmt.Errorf("is about %s and its successors, and keyd.yaml has %s: give a key of your own another name", s.Ref, kc.ref())
	}
	if err != nil {
		return slotState{}, false, fmt.Errorf("its state file %s %w; if that is lost, name the newest key's file under a new name in keyd.yaml", name, err)
	}
	return s, true, nil
}

// saveSlot returns when the state is on disk.
func saveSlot(store stateFolder, s slotState) error {
	data, err := s.encode()
	if err == nil {
		err = replaceFile(store, slotFile(s.Name), data)
	}
	if err != nil {
		return fmt.Errorf("keeping the generations of %s: %w", s.Name, err)
	}
	return nil
}

// afresh gives stages that began in the future the whole of their time: the clock was ahead, or is behind now. No key is
// destroyed early because of it, and none waits for a year that is far away.
func (s slotState) afresh(now time.Time) slotState {
	for _, g := range s.Generations {
		if g.Since.After(now) {
			s = s.to(g.Number, g.Stage, now)
		}
	}
	return s
}
