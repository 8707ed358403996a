package keyd

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sallyport/certs/internal/wire"
)

// slots are the keys of a configuration through all their generations, and everything that changes them. What requests
// use is the keyset that follows from them. One change happens at a time.
type slots struct {
	state   stateFolder
	now     func() time.Time
	log     *slog.Logger
	publish func(*keyset)
	began   time.Time // this run

	mu      sync.Mutex
	config  *Config
	stores  *backends
	list    []*slot
	ledgers map[string]*ledger // by configured origin; they outlive keys and configurations
}

// slot is one configured key.
type slot struct {
	KeyConfig
	store backend
	state slotState
	kept  bool // there is a state file
	live  map[int]*liveKey

	problem error     // why the last step failed
	retry   time.Time // not before
}

// liveKey is a generation's key, open in its backend.
type liveKey struct {
	*key
	private crypto.Signer
}

// openSlots opens every key of the configuration and reports all problems at once, each with the key's name. Before is
// what runs now, or nil: where a key goes on, so does what keyd knows of it.
func openSlots(c *Config, stores *backends, state stateFolder, now func() time.Time, before *slots) (*slots, error) {
	s := &slots{state: state, now: now, config: c, stores: stores, ledgers: map[string]*ledger{}, log: slog.New(slog.DiscardHandler), publish: func(*keyset) {}, began: now()}
	if before != nil {
		s.log, s.publish, s.ledgers = before.log, before.publish, before.ledgers
	}
	// What a killed keyd left behind may not be on disk: everybody is told of it now, so it must not be gone after a power cut.
	if err := state.Sync(); err != nil {
		return nil, fmt.Errorf("opening state folder: %w", err)
	}
	var errs []error
	for _, kc := range c.Keys {
		sl, err := s.open(kc, before)
		if err != nil {
			errs = append(errs, fmt.Errorf("key %q: %w", kc.Name, err))
			continue
		}
		s.list = append(s.list, sl)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	return s, s.equip()
}

// find is the slot of that name, nil if there is none. It is asked of what may be nothing.
func (s *slots) find(name string) *slot {
	if s == nil {
		return nil
	}
	i := slices.IndexFunc(s.list, func(sl *slot) bool { return sl.Name == name })
	if i < 0 {
		return nil
	}
	return s.list[i]
}

// open opens a slot and the keys of its generations. Nothing is written or destroyed.
func (s *slots) open(kc KeyConfig, before *slots) (*slot, error) {
	sl := &slot{KeyConfig: kc, store: s.stores.of(kc), live: map[int]*liveKey{}}
	if old := before.find(kc.Name); old != nil && old.kept && old.state.Ref == kc.ref() {
		sl.state, sl.kept = old.state, true // with times of the monotonic clock
	} else {
		var err error
		if sl.state, sl.kept, err = loadSlot(s.state, kc); err != nil {
			return nil, err
		}
		sl.state = sl.state.afresh(s.now())
	}
	if !sl.kept {
		if err := sl.checkNew(); err != nil {
			return nil, err
		}
	}
	for _, g := range sl.state.Generations {
		if !g.exists() {
			continue
		}
		if err := s.load(sl, g, before.find(kc.Name)); err != nil {
			return nil, err
		}
	}
	return sl, nil
}

// checkNew refuses a slot without state of which there are later generations: the state was lost, and with it which of
// them is current and which were to be destroyed.
func (sl *slot) checkNew() error {
	if sl.Managed && sl.Purpose == wire.ACMEAccount && !sl.has(1) {
		sl.state.Next, sl.state.Generations = 1, nil
	}
	for n := 2; n <= lostGenerations; n++ {
		if sl.has(n) {
			return fmt.Errorf("%s exists, and the state file %s, which says what it is, is missing; if that is lost, name the newest "+
				"key's file under a new name in keyd.yaml", refOf(sl.state.Ref, n), slotFile(sl.Name))
		}
	}
	if sl.managesTLS() && sl.has(1) {
		return fmt.Errorf("%s exists, and the state file %s, which says what it is, is missing; a managed key must not be there before "+
			"keyd makes it", sl.state.Ref, slotFile(sl.Name))
	}
	return nil
}

// has tells whether something is under a generation's reference, whatever it is.
func (sl *slot) has(number int) bool {
	_, err := sl.store.open(refOf(sl.state.Ref, number))
	return !errors.Is(err, fs.ErrNotExist)
}

// load opens a generation's key, which must be the one that the state knows. Counters go on.
func (s *slots) load(sl *slot, g generation, old *slot) error {
	private, err := sl.store.open(refOf(sl.state.Ref, g.Number))
	if err != nil {
		return err
	}
	k, err := newKey(s.config, sl.KeyConfig, private, s.ledgersOf(sl.KeyConfig), s.now)
	if err != nil {
		return err
	}
	switch id := k.id.String(); {
	case slices.Contains(sl.state.Destroyed, id):
		return fmt.Errorf("%s holds a key that was destroyed", refOf(sl.state.Ref, g.Number))
	case g.ID != "" && g.ID != id:
		return fmt.Errorf("%s holds another key than keyd made", refOf(sl.state.Ref, g.Number))
	}
	if old != nil {
		for _, was := range old.live {
			if was.id == k.id {
				k.signed.Store(was.signed.Load())
				k.refused.Store(was.refused.Load())
			}
		}
	}
	sl.live[g.Number] = &liveKey{k, private}
	return nil
}

// settle finishes what a killed keyd had begun, makes the keys that are missing because they are managed, and notes when
// those with a schedule were first seen.
func (s *slots) settle() error {
	if _, err := s.keyset(); err != nil {
		return err // before anything is changed
	}
	var errs []error
	for _, sl := range s.list {
		if err := s.settleSlot(sl); err != nil {
			errs = append(errs, fmt.Errorf("key %q: %w", sl.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *slots) settleSlot(sl *slot) error {
	for _, g := range sl.state.Generations {
		if g.Stage == making { // nobody was told of it
			if err := s.save(sl, sl.state.to(g.Number, destroying, s.now())); err != nil {
				return err
			}
		}
	}
	if sl.Purpose == wire.ACMEAccount && sl.Managed && sl.state.count(current) == 0 {
		n, err := s.make(sl)
		if err != nil {
			return err
		}
		return s.save(sl, sl.state.switched(n, s.now()))
	}
	if sl.schedule().Every > 0 && !sl.kept {
		g := sl.state.Generations[0]
		return s.save(sl, sl.state.to(g.Number, current, s.now()))
	}
	return nil
}

// save makes a state the slot's, once it is on disk. If that fails, what the disk has is not known, and the slot keeps the
// state before; none of the two is wrong about a key that there is, and the next one that is saved replaces both.
func (s *slots) save(sl *slot, next slotState) error {
	if g, ok := next.find(current); ok && g.ID == "" {
		next = next.named(g.Number, sl.live[g.Number].id) // the first generation, which an operator brought
	}
	for _, g := range next.Generations {
		if g.Stage == retiring && g.ID == "" {
			next = next.named(g.Number, sl.live[g.Number].id)
		}
	}
	if len(sl.Name) > maxSlotName {
		return fmt.Errorf("its name is too long for a key with generations: %d bytes at most", maxSlotName)
	}
	if err := saveSlot(s.state, next); err != nil {
		return err
	}
	sl.state, sl.kept = next, true
	return nil
}

// make makes the next key of a slot, in stage making, and returns its number. The state says so before the key exists.
func (s *slots) make(sl *slot) (int, error) {
	if n := len(sl.state.Generations); n >= maxLive {
		return 0, fmt.Errorf("there are %d generations that are not destroyed yet", n)
	}
	ref := refOf(sl.state.Ref, sl.state.Next)
	if sl.has(sl.state.Next) {
		return 0, fmt.Errorf("%s is in the way: keyd did not make it", ref)
	}
	next, n := sl.state.make(s.now())
	if err := s.save(sl, next); err != nil {
		return 0, err
	}
	private, err := sl.store.generate(ref, sl.kind())
	if errors.Is(err, fs.ErrExist) { // it came in between, and is not ours to destroy
		return 0, errors.Join(fmt.Errorf("making %s: %w", ref, err), s.save(sl, sl.state.without(n)))
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("making %s: %w", ref, err), s.save(sl, sl.state.to(n, destroying, s.now())))
	}
	k, err := newKey(s.config, sl.KeyConfig, private, s.ledgersOf(sl.KeyConfig), s.now)
	if err != nil {
		return 0, errors.Join(err, s.save(sl, sl.state.to(n, destroying, s.now())))
	}
	sl.live[n] = &liveKey{k, private}
	sl.state = sl.state.named(n, k.id) // on disk with the next stage
	return n, nil
}

// kind is that of the slot's next key.
func (sl *slot) kind() keyKind {
	switch {
	case sl.Kind != "":
		return sl.Kind
	case sl.Purpose == wire.Checkpoints || sl.Purpose == wire.Manifests:
		return kindEd25519
	}
	return kindP256
}

// destroy removes what the slot has to destroy, for good.
func (s *slots) destroy(sl *slot) error {
	for _, g := range sl.state.Generations {
		if g.Stage != destroying {
			continue
		}
		if err := sl.store.destroy(refOf(sl.state.Ref, g.Number)); err != nil {
			return fmt.Errorf("destroying %s: %w", refOf(sl.state.Ref, g.Number), err)
		}
		if err := s.save(sl, sl.state.without(g.Number)); err != nil {
			return err
		}
		delete(sl.live, g.Number)
		s.log.Info("a key is destroyed", "key", sl.Name, "generation", g.Number, "id", g.ID)
	}
	return nil
}
