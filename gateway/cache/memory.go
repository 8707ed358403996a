package cache

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

const (
	// maxVariants bounds the entries of one key. A client that makes up values of a header that the answer varies by
	// pushes out its own partition's variants, and those of a shared URL, never other URLs' in bulk.
	maxVariants = 32
	// groupOverhead is what a key costs besides its entries and texts: otter's node and ours.
	groupOverhead = 320
)

// Memory is a store in memory, bounded by bytes. It keeps what is used often and lately (W-TinyLFU).
type Memory struct {
	groups *otter.Cache[Key, *group]
	limit  int64
	total  atomic.Int64

	mu    sync.Mutex
	usage atomic.Pointer[map[string]*usage] // copied on write
}

// group is the entries of one key. It never changes.
type group struct {
	entries []*Entry // the one stored last first
	bytes   int64
	usage   *usage
}

// usage is what an app holds.
type usage struct{ entries, bytes, evicted atomic.Int64 }

// NewMemory builds a store that keeps at most so many bytes: bodies, headers, keys and bookkeeping.
func NewMemory(bytes int64) *Memory {
	m := &Memory{limit: bytes}
	m.usage.Store(&map[string]*usage{})
	m.groups = otter.Must(&otter.Options[Key, *group]{
		MaximumWeight:    uint64(max(bytes, 1)),
		Weigher:          func(_ Key, g *group) uint32 { return uint32(min(g.bytes, math.MaxUint32)) },
		OnAtomicDeletion: func(e otter.DeletionEvent[Key, *group]) { m.forget(e.Value, e.Cause) },
		// Eviction runs with the write that makes it necessary, and leaves no goroutine behind.
		Executor: func(fn func()) { fn() },
	})
	return m
}

func (m *Memory) forget(g *group, cause otter.DeletionCause) {
	m.total.Add(-g.bytes)
	g.usage.entries.Add(-int64(len(g.entries)))
	g.usage.bytes.Add(-g.bytes)
	if cause == otter.CauseOverflow {
		g.usage.evicted.Add(int64(len(g.entries)))
	}
}

func (m *Memory) newGroup(k Key, entries []*Entry, u *usage) *group {
	g := &group{entries: entries, usage: u, bytes: groupOverhead + int64(len(k.App)+len(k.URL)+len(k.Person))}
	for _, e := range entries {
		g.bytes += e.size
	}
	u.entries.Add(int64(len(entries)))
	u.bytes.Add(g.bytes)
	m.total.Add(g.bytes)
	return g
}

// Get implements [Store].
func (m *Memory) Get(k Key) []*Entry {
	if g, ok := m.groups.GetIfPresent(k); ok {
		return g.entries
	}
	return nil
}

// Put implements [Store]. An entry that would take more than half of the memory is not kept.
func (m *Memory) Put(k Key, e *Entry) {
	if e.size > m.limit/2 {
		return
	}
	u := m.usageOf(k.App)
	m.groups.Compute(k, func(old *group, found bool) (*group, otter.ComputeOp) {
		entries := []*Entry{e}
		if found {
			entries = m.add(e, old.entries)
		}
		return m.newGroup(k, entries, u), otter.WriteOp
	})
	if m.total.Load() > m.limit { // several write at once, and only one of them evicts
		m.groups.CleanUp()
	}
}

// add puts an entry before those that it does not supersede, as far as there is room.
func (m *Memory) add(e *Entry, others []*Entry) []*Entry {
	entries, size := []*Entry{e}, e.size
	for _, other := range others {
		if size += other.size; len(entries) == maxVariants || size > m.limit/2 {
			break
		}
		if e.Supersedes(other) {
			size -= other.size
			continue
		}
		entries = append(entries, other)
	}
	return entries
}

// Replace implements [Store].
func (m *Memory) Replace(k Key, old, next *Entry) (replaced bool) {
	m.groups.ComputeIfPresent(k, func(g *group) (*group, otter.ComputeOp) {
		i := slices.Index(g.entries, old)
		switch {
		case i < 0:
			return g, otter.CancelOp
		case next == nil && len(g.entries) == 1:
			replaced = true
			return nil, otter.InvalidateOp
		}
		replaced = true
		entries := slices.Clone(g.entries)
		if next == nil {
			entries = slices.Delete(entries, i, i+1)
		} else {
			entries[i] = next
		}
		return m.newGroup(k, entries, g.usage), otter.WriteOp
	})
	return replaced
}

// Purge implements [Store].
func (m *Memory) Purge(match func(Key) bool) (entries int, bytes int64) {
	for k := range m.groups.Keys() {
		if !match(k) {
			continue
		}
		if g, removed := m.groups.Invalidate(k); removed {
			entries += len(g.entries)
			bytes += g.bytes
		}
	}
	return entries, bytes
}

// Held implements [Store].
func (m *Memory) Held() map[string]Held {
	held := map[string]Held{}
	for name, u := range *m.usage.Load() {
		held[name] = Held{Entries: u.entries.Load(), Bytes: u.bytes.Load(), Evicted: u.evicted.Load()}
	}
	return held
}

// Close implements [Store].
func (m *Memory) Close() {
	m.groups.InvalidateAll()
	m.groups.StopAllGoroutines()
}

func (m *Memory) usageOf(app string) *usage {
	if u := (*m.usage.Load())[app]; u != nil {
		return u
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.usage.Load()
	if u := known[app]; u != nil {
		return u
	}
	made := &usage{}
	grown := maps.Clone(known)
	grown[app] = made
	m.usage.Store(&grown)
	return made
}
