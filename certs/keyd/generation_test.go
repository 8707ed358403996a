package keyd

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/certs/internal/wire"
	"sallyport/certs/keyd/keydtest"
)

// memoryKeys is a backend whose keys are files of the machine, so that they share its fate. A file holds the name of its
// key.
type memoryKeys struct {
	m    *machine
	made map[string]crypto.Signer // every key there ever was, by name
}

const keyPrefix = "key/"

func (k *memoryKeys) open(ref string) (crypto.Signer, error) {
	c := k.m.names[keyPrefix+ref]
	if c == nil {
		return nil, fs.ErrNotExist
	}
	if k.made[string(c.data)] == nil {
		return nil, errors.New("damaged key")
	}
	return k.made[string(c.data)], nil
}

func (k *memoryKeys) generate(ref string, kind keyKind) (crypto.Signer, error) {
	if k.m.names[keyPrefix+ref] != nil {
		return nil, fs.ErrExist
	}
	private, err := newPrivate(kind)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprint(len(k.made))
	k.made[name] = private
	w, err := k.m.Create(keyPrefix + ref)
	if err == nil {
		_, err = w.Write([]byte(name))
	}
	if err == nil {
		err = w.Sync()
	}
	if err == nil {
		err = k.m.Sync()
	}
	return private, err
}

func (k *memoryKeys) destroy(ref string) error {
	if err := k.m.step(func() { delete(k.m.names, keyPrefix+ref) }); err != nil {
		return err
	}
	return k.m.Sync()
}

func (k *memoryKeys) close() error { return nil }

// clock is a clock that tests set. It has no monotonic part: what it says is what a restarted keyd sees.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

// bed is a machine with a configuration, on which keyd is started again and again.
type bed struct {
	*machine
	keys   *memoryKeys
	clock  *clock
	config *Config
}

// rotatingPlan is the schedule of the keys of a bed.
var rotatingPlan = RotateConfig{Every: 100 * time.Hour, Announce: time.Hour, Overlap: 10 * time.Hour}

// newBed has an assertion key, a checkpoint key and a managed TLS key.
func newBed(t testing.TB, r *mathrand.Rand) *bed {
	t.Helper()
	m := newMachine(r)
	plan, overlap := rotatingPlan, RotateConfig{Overlap: rotatingPlan.Overlap}
	b := &bed{machine: m, keys: &memoryKeys{m, map[string]crypto.Signer{}}, clock: &clock{time.Unix(1_800_000_000, 0)}, config: &Config{
		Keys: []KeyConfig{
			{Name: "says", Purpose: wire.Assertion, PKCS11: "says.pem", Rotate: &plan},
			{Name: "log", Purpose: wire.Checkpoints, PKCS11: "log.pem", Origins: []string{decision}, Rotate: &plan},
			{Name: "wiki", Purpose: wire.TLSServer, PKCS11: "wiki.pem", Names: []string{"wiki.corp.example", "*.apps.corp.example"}, Managed: true, Rotate: &overlap},
		},
		Assertion: AssertionConfig{Issuer: "https://auth.corp.example", Audiences: []Audience{"https://*.corp.example"}},
	}}
	for ref, kind := range map[string]keyKind{"says.pem": kindP256, "log.pem": kindEd25519} {
		if _, err := b.keys.generate(ref, kind); err != nil {
			t.Fatal(err)
		}
	}
	if err := saveState(m, newLogState(decision)); err != nil {
		t.Fatal(err)
	}
	for _, k := range b.config.Keys {
		if err := k.checkGenerations(); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// start is a keyd that begins. What it publishes goes to set.
func (b *bed) start() (s *slots, set *keyset, err error) {
	s, err = openSlots(b.config, &backends{token: b.keys}, b.machine, b.clock.now, nil)
	if err != nil {
		return nil, nil, err
	}
	set, err = s.keyset()
	return s, set, err
}

func (b *bed) mustStart(t testing.TB) (*slots, func() []wire.Key) {
	t.Helper()
	s, set, err := b.start()
	if err != nil {
		t.Fatal(err)
	}
	s.publish = func(next *keyset) { set = next }
	return s, func() []wire.Key { return listed(t, set) }
}

func listed(t testing.TB, set *keyset) []wire.Key {
	t.Helper()
	var list wire.List
	if err := json.Unmarshal(set.list, &list); err != nil {
		t.Fatal(err)
	}
	return list.Keys
}

// of are the keys of a name.
func of(keys []wire.Key, name string) (list []wire.Key) {
	for _, k := range keys {
		if k.Name == name {
			list = append(list, k)
		}
	}
	return list
}

// refs are the references under which there are keys.
func (b *bed) refs() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(b.names)) {
		if ref, ok := strings.CutPrefix(name, keyPrefix); ok {
			list = append(list, ref)
		}
	}
	return list
}

// A key is announced, then used, and the one before is destroyed, each when it is time and not before.
func TestKEY12KeysRotateOnTime(t *testing.T) {
	b := newBed(t, mathrand.New(mathrand.NewPCG(1, 1)))
	s, keys := b.mustStart(t)
	s.publish(must(s.keyset()))
	first := of(keys(), "says")
	if len(first) != 1 || !first[0].Current || first[0].Generation != 1 {
		t.Fatalf("at first: %+v", first)
	}
	generations := func() (list []string) {
		for _, k := range of(keys(), "says") {
			stage := "other"
			if k.Current {
				stage = "current"
			}
			list = append(list, fmt.Sprintf("%d %s", k.Generation, stage))
		}
		return list
	}
	for _, tt := range []struct {
		after time.Duration
		want  []string
		refs  []string
	}{
		{98*time.Hour + 59*time.Minute, []string{"1 current"}, []string{"log.pem", "says.pem"}},
		{time.Minute, []string{"1 current", "2 other"}, []string{"log.2.pem", "log.pem", "says.2.pem", "says.pem"}},
		{59 * time.Minute, []string{"1 current", "2 other"}, nil},
		{time.Minute, []string{"2 current", "1 other"}, nil},
		{9*time.Hour + 59*time.Minute, []string{"2 current", "1 other"}, nil},
		{time.Minute, []string{"2 current"}, []string{"log.2.pem", "says.2.pem"}},
		{89 * time.Hour, []string{"2 current", "3 other"}, nil},
	} {
		b.clock.advance(tt.after)
		s.advance()
		if got := generations(); !slices.Equal(got, tt.want) {
			t.Errorf("%s later: got %v, want %v", tt.after, got, tt.want)
		}
		if tt.refs != nil && !slices.Equal(b.refs(), tt.refs) {
			t.Errorf("%s later there are %v, want %v", tt.after, b.refs(), tt.refs)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A clock that goes back makes no key younger than it is, and one that was ahead keeps none for years: a stage that began
// in the future begins again, and lasts its whole time.
func TestClockThatGoesBackDestroysNothingEarly(t *testing.T) {
	b := newBed(t, mathrand.New(mathrand.NewPCG(1, 1)))
	s, keys := b.mustStart(t)
	if _, err := s.rotate(wire.RotateRequest{Name: "says", Now: true}); err != nil {
		t.Fatal(err)
	}
	began := b.clock.t
	b.clock.advance(-1000 * time.Hour)
	s.advance()
	if n := len(of(keys(), "says")); n != 2 {
		t.Fatalf("the clock went back, and %d keys are left", n)
	}
	// A restarted keyd cannot know how long ago it was, and waits once more.
	s, _ = b.mustStart(t)
	b.clock.advance(rotatingPlan.Overlap - time.Second)
	s.advance()
	if n := len(s.find("says").live); n != 2 {
		t.Errorf("after a restart %d keys are left before the overlap is over", n)
	}
	b.clock.advance(time.Second)
	s.advance()
	if n := len(s.find("says").live); n != 1 || b.clock.t.After(began) {
		t.Errorf("%d keys are left after the overlap", n)
	}
}

// Within one run the monotonic clock counts: a wall clock that is put ahead destroys nothing.
func TestClockThatIsPutAheadDestroysNothingEarly(t *testing.T) {
	b := newBed(t, mathrand.New(mathrand.NewPCG(1, 1)))
	now := time.Now() // has a monotonic part
	s, err := openSlots(b.config, &backends{token: b.keys}, b.machine, func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.rotate(wire.RotateRequest{Name: "says", Now: true}); err != nil {
		t.Fatal(err)
	}
	g, _ := s.find("says").state.find(retiring)
	if ahead := now.Add(time.Nanosecond); g.elapsed(ahead) != time.Nanosecond || !strings.Contains(g.Since.String(), "m=") {
		t.Errorf("the time of a stage has no monotonic part: %s", g.Since)
	}
}

// history is what everybody who listens to keyd knows.
type history struct {
	announcedAt map[string]time.Time // by id, when it was first published
	retired     map[string]time.Time // since when it is not the current one any more
	wasCurrent  map[string]bool
	gone        map[string]bool // published once, and then no more
	last        map[string]bool // in the last list
	hurried     bool            // somebody said --now
}

// see takes a list and says what is wrong with it.
func (h *history) see(now time.Time, keys []wire.Key) error {
	present, current := map[string]bool{}, map[string]int{}
	for _, k := range keys {
		present[k.ID] = true
		if h.gone[k.ID] {
			return fmt.Errorf("%s generation %d is back", k.Name, k.Generation)
		}
		if h.announcedAt[k.ID].IsZero() {
			h.announcedAt[k.ID] = now
		}
		if !k.Current {
			if h.wasCurrent[k.ID] && h.retired[k.ID].IsZero() {
				h.retired[k.ID] = now
			}
			continue
		}
		current[k.Name]++
		if !h.wasCurrent[k.ID] && k.Generation > 1 && k.Name != "wiki" && !h.hurried && now.Sub(h.announcedAt[k.ID]) < rotatingPlan.Announce {
			return fmt.Errorf("%s generation %d is used %s after it was published", k.Name, k.Generation, now.Sub(h.announcedAt[k.ID]))
		}
		if !h.retired[k.ID].IsZero() {
			return fmt.Errorf("%s generation %d is used again", k.Name, k.Generation)
		}
		h.wasCurrent[k.ID] = true
	}
	for _, name := range []string{"says", "log"} {
		if current[name] != 1 {
			return fmt.Errorf("%s has %d current keys", name, current[name])
		}
	}
	for id := range h.last {
		if present[id] {
			continue
		}
		if h.retired[id].IsZero() || now.Sub(h.retired[id]) < rotatingPlan.Overlap {
			return fmt.Errorf("key %s is lost", id)
		}
		h.gone[id] = true
	}
	h.last = present
	return nil
}

// lives lets keyd live and die on a machine while keys rotate, are asked for and adopted, and tells what went wrong.
func lives(t *testing.T, seed uint64, mutate func(*bed)) error {
	t.Helper()
	r := mathrand.New(mathrand.NewPCG(seed, 7))
	b := newBed(t, r)
	h := &history{announcedAt: map[string]time.Time{}, retired: map[string]time.Time{}, wasCurrent: map[string]bool{}, gone: map[string]bool{}}
	if mutate != nil {
		mutate(b)
	}
	log := keydtest.NewLog(t, "log")
	for range 6 {
		s, set, err := b.start()
		if err != nil {
			return fmt.Errorf("it does not start: %w", err)
		}
		var wrong error
		see := func(set *keyset) {
			if wrong == nil {
				wrong = h.see(b.clock.t, listed(t, set))
			}
		}
		s.publish = see
		see(set)
		if r.IntN(4) > 0 {
			b.left = 1 + r.IntN(60)
		}
		for range 1 + r.IntN(8) {
			if b.left != 0 { // a dead process does nothing more
				b.act(s, r, h, log)
			}
		}
		if wrong != nil {
			return wrong
		}
		if b.left = -1; r.IntN(2) == 0 {
			b.powerCut()
		}
	}
	s, set, err := b.start()
	if err != nil {
		return fmt.Errorf("it does not start: %w", err)
	}
	s.advance()
	if err := h.see(b.clock.t, listed(t, must(s.keyset()))); err != nil {
		return err
	}
	_ = set
	return b.noOrphans(s)
}

// act does something that changes keys.
func (b *bed) act(s *slots, r *mathrand.Rand, h *history, log *keydtest.Log) {
	switch r.IntN(7) {
	case 0:
		name := []string{"says", "log"}[r.IntN(2)]
		hurried := r.IntN(3) == 0
		h.hurried = h.hurried || hurried
		s.rotate(wire.RotateRequest{Name: name, Now: hurried})
	case 1:
		s.makeCSR(wire.CSRRequest{Slot: "wiki", Names: []string{"wiki.corp.example"}})
	case 2:
		if g, ok := s.find("wiki").state.find(pending); ok {
			if k := s.find("wiki").live[g.Number]; k != nil {
				s.adopt(k.id)
			}
		}
	case 3:
		l := s.ledgers[decision]
		state, _ := l.position()
		next := wire.Checkpoint{Origin: decision, Size: state.last.Size + 2}
		next.Root = log.Root(next.Size)
		l.grow(next, wire.Growth{Old: state.last.Size, Proof: log.Proof(state.last.Size, next.Size), Body: next.AppendText(nil)})
	default:
		b.clock.advance(time.Duration(r.IntN(int(12 * time.Hour))))
		s.advance()
		s.advance()
	}
}

// noOrphans wants exactly the keys that the state knows.
func (b *bed) noOrphans(s *slots) error {
	var want []string
	for _, sl := range s.list {
		for _, g := range sl.state.Generations {
			if !g.exists() {
				return fmt.Errorf("%s generation %d is still %s", sl.Name, g.Number, g.Stage)
			}
			want = append(want, refOf(sl.state.Ref, g.Number))
		}
	}
	slices.Sort(want)
	if got := b.refs(); !slices.Equal(got, want) {
		return fmt.Errorf("there are keys %v, and it knows %v", got, want)
	}
	return nil
}

// KEY-12: whatever dies, whenever, no key is lost, none that was destroyed comes back, none is used before it was
// published long enough, and no key file stays behind. Disks that lie about what they keep, and a keyd that destroys before
// it has said so, are found out.
func TestKEY12NoKeyIsLostOrComesBack(t *testing.T) {
	seed := keydtest.Seed(t)
	n := uint64(rounds(t, 300))
	t.Logf("%d lives", n)
	for i := range n {
		if err := lives(t, seed+i, nil); err != nil {
			t.Fatalf("SALLYPORT_SEED=%d: %v", seed+i, err)
		}
	}
	for name, mutate := range map[string]func(*bed){
		"files are not synced": func(b *bed) { b.skipData = true },
		"names are not synced": func(b *bed) { b.skipNames = true },
		"destroys at once": func(b *bed) {
			b.config.Keys[0].Rotate = &RotateConfig{Every: 100 * time.Hour, Announce: time.Hour, Overlap: time.Second}
		},
		"does not announce": func(b *bed) {
			b.config.Keys[0].Rotate = &RotateConfig{Every: 100 * time.Hour, Announce: time.Second, Overlap: 10 * time.Hour}
		},
	} {
		found := false
		for i := uint64(0); i < 2000 && !found; i++ {
			found = lives(t, i, mutate) != nil
		}
		if !found {
			t.Errorf("%s: nothing was found", name)
		}
	}
}

// A state that is missing or damaged is an error that says what to do, and destroys nothing.
func TestLostGenerationsStopKeyd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(b *bed)
		want  string
	}{
		{"the state is missing", func(b *bed) { delete(b.names, slotFile("says")) }, "is missing"},
		{"the state is damaged", func(b *bed) { b.names[slotFile("says")].data[40] ^= 1 }, "damaged"},
		{"the state is that of another key", func(b *bed) { b.names[slotFile("says")] = b.names[slotFile("log")] }, "another key"},
		{"the state is cut", func(b *bed) { c := b.names[slotFile("says")]; c.data = c.data[:len(c.data)-3] }, "damaged"},
		{"the configuration names another file", func(b *bed) { b.config.Keys[0].PKCS11 = "other.pem" }, "says.pem"},
		{"a key is missing", func(b *bed) { delete(b.names, keyPrefix+"says.2.pem") }, "not exist"},
		{"a key was exchanged", func(b *bed) { b.names[keyPrefix+"says.2.pem"] = b.names[keyPrefix+"says.pem"] }, "another key"},
		{"the state of a managed key is missing", func(b *bed) { delete(b.names, slotFile("wiki")) }, "is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, mathrand.New(mathrand.NewPCG(1, 1)))
			s, _ := b.mustStart(t)
			for _, name := range []string{"says", "log"} {
				if _, err := s.rotate(wire.RotateRequest{Name: name}); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := s.makeCSR(wire.CSRRequest{Slot: "wiki", Names: []string{"wiki.corp.example"}}); err != nil {
				t.Fatal(err)
			}
			tt.spoil(b)
			before := len(b.names)
			_, _, err := b.start()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if len(b.names) != before {
				t.Error("files came or went")
			}
		})
	}
}

// A key that comes back from a backup after it was destroyed is refused.
func TestDestroyedKeysDoNotComeBack(t *testing.T) {
	b := newBed(t, mathrand.New(mathrand.NewPCG(1, 1)))
	backup := *b.names[keyPrefix+"says.pem"]
	s, _ := b.mustStart(t)
	if _, err := s.rotate(wire.RotateRequest{Name: "says", Now: true}); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(rotatingPlan.Overlap)
	s.advance()
	if b.names[keyPrefix+"says.pem"] != nil || len(s.find("says").live) != 1 {
		t.Fatal("the key of before is still there")
	}
	b.names[keyPrefix+"says.2.pem"] = &backup
	if _, _, err := b.start(); err == nil || !strings.Contains(err.Error(), "destroyed") {
		t.Errorf("got %v, want that the key was destroyed", err)
	}
}

// A destruction that fails is told in the status, and tried again; the key signs no more.
func TestFailedDestructionIsToldAndRepeated(t *testing.T) {
	b := newBed(t, mathrand.New(mathrand.NewPCG(1, 1)))
	s, set, err := b.start()
	if err != nil {
		t.Fatal(err)
	}
	s.publish = func(next *keyset) { set = next }
	if _, err := s.rotate(wire.RotateRequest{Name: "says", Now: true}); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(rotatingPlan.Overlap)
	stuck := &stuckKeys{b.keys, errors.New("the token is read-only")}
	s.find("says").store = stuck
	s.advance()
	told := slices.ContainsFunc(set.silent, func(k wire.KeyStatus) bool {
		return k.Generation == 1 && k.Stage == string(destroying) && strings.Contains(k.Problem, "read-only")
	})
	if !told || len(of(listed(t, set), "says")) != 1 {
		t.Errorf("status says %+v, the list %+v", set.silent, of(listed(t, set), "says"))
	}
	stuck.err = nil
	b.clock.advance(failedPause)
	s.advance()
	if b.names[keyPrefix+"says.pem"] != nil || len(set.silent) != 0 {
		t.Errorf("the key is still there: %v %+v", b.refs(), set.silent)
	}
}

type stuckKeys struct {
	backend
	err error
}

func (k *stuckKeys) destroy(ref string) error {
	if k.err != nil {
		return k.err
	}
	return k.backend.destroy(ref)
}
