package keyd

import (
	"encoding/json"
	"fmt"
	"time"

	"sallyport/certs/internal/wire"
)

// keyset is every key that there is at a time. It does not change: a rotation makes another one.
type keyset struct {
	keys   []*key // in the order of the configuration, of one name the current one first
	byID   map[wire.KeyID]*key
	list   []byte           // the answer to list
	about  []wire.KeyStatus // of each of keys, what does not change
	silent []wire.KeyStatus // generations that sign nothing: not yet, or no more
}

// keyset is what follows from the slots.
func (s *slots) keyset() (*keyset, error) {
	set := &keyset{byID: map[wire.KeyID]*key{}}
	var list wire.List
	for _, sl := range s.list {
		list.Slots = append(list.Slots, wire.Slot{Name: sl.Name, Purpose: sl.Purpose, Names: sl.Names, Managed: sl.Managed})
		for _, st := range []stage{current, announced, retiring, pending, making, destroying} {
			for _, g := range sl.state.Generations {
				if g.Stage != st {
					continue
				}
				about := sl.about(g)
				if !g.signs() {
					set.silent = append(set.silent, about)
					continue
				}
				k := sl.live[g.Number].key
				if other := set.byID[k.id]; other != nil {
					// A key of two purposes could be made to sign for one what the other refuses.
					return nil, fmt.Errorf("key %q: is the same key as %q", k.Name, other.Name)
				}
				told, err := sl.told(k, g)
				if err != nil {
					return nil, fmt.Errorf("key %q: %w", k.Name, err)
				}
				set.byID[k.id] = k
				set.keys, set.about = append(set.keys, k), append(set.about, about)
				list.Keys = append(list.Keys, told)
			}
		}
	}
	var err error
	if set.list, err = json.Marshal(list); err != nil {
		return nil, err
	}
	if room := wire.MaxAnswer / 2; len(set.list) > room { // status says the same and more
		return nil, fmt.Errorf("too many keys: their list takes %d bytes of %d", len(set.list), room)
	}
	return set, nil
}

// told is what the list says of a generation.
func (sl *slot) told(k *key, g generation) (wire.Key, error) {
	origins, err := k.origins()
	t := wire.Key{
		Name: k.Name, Purpose: k.Purpose, ID: k.id.String(), Public: k.public, Names: k.Names, ClientID: k.ClientID,
		Origins: origins, TLS12: k.sign12 != nil,
		Generation: g.Number, Current: g.Stage == current, Since: g.Since.UTC(),
	}
	if sl.cannotRotate() == nil {
		t.Announce = int(sl.schedule().Announce / time.Second)
	}
	if g.Stage == retiring {
		t.Retires = g.Since.Add(sl.schedule().Overlap).UTC()
	}
	return t, err
}

// about is what the status says of a generation, counters apart.
func (sl *slot) about(g generation) wire.KeyStatus {
	st := wire.KeyStatus{
		Name: sl.Name, Purpose: sl.Purpose, ID: g.ID, Names: sl.Names,
		Generation: g.Number, Stage: string(g.Stage), Since: g.Since.UTC(),
	}
	if k := sl.live[g.Number]; k != nil {
		st.ID = k.id.String()
	}
	if g.Stage == retiring {
		st.Until = g.Since.Add(sl.schedule().Overlap).UTC()
	}
	if g.Stage == announced {
		st.Until = g.Since.Add(sl.schedule().Announce).UTC()
	}
	if sl.problem != nil && (g.Stage == current || g.Stage == destroying) {
		st.Problem = sl.problem.Error()
	}
	return st
}
