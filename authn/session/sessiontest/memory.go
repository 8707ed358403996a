package sessiontest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/authn/session"
)

// Memory is a Store in memory, for tests: all it keeps is gone with it.
type Memory struct {
	mu      sync.Mutex
	keys    []session.SealingKey
	entries map[string]session.Entry
	handles map[session.Hash]memoryHandle
	spent   map[string]time.Time
	past    map[session.Hash]memoryTrace
	traces  int // ever made
	leases  map[string]memoryLease
	forms   map[session.Hash]session.Form
	persons map[string]memoryPerson
	changes []session.Change // the news since the beginning; its length is the position
	wake    chan struct{}    // closed and replaced with each change
}

type memoryHandle struct {
	id string
	session.Handle
}

type memoryTrace struct {
	session.Trace
	n     int // counts up, so that the newest can be told
	until time.Time
}

type memoryLease struct {
	holder string
	until  time.Time
}

type memoryPerson struct {
	session.Person
	disabled time.Time
}

// NewMemory returns an empty store with a key of its own.
func NewMemory() *Memory {
	key := session.SealingKey{ID: 1, Made: time.Now().UTC()}
	rand.Read(key.Secret[:])
	return &Memory{
		keys:    []session.SealingKey{key},
		entries: make(map[string]session.Entry),
		handles: make(map[session.Hash]memoryHandle),
		spent:   make(map[string]time.Time),
		past:    make(map[session.Hash]memoryTrace),
		leases:  make(map[string]memoryLease),
		forms:   make(map[session.Hash]session.Form),
		persons: make(map[string]memoryPerson),
		wake:    make(chan struct{}),
	}
}

// SealingKeys implements session.Store.
func (m *Memory) SealingKeys(context.Context) ([]session.SealingKey, error) {
	return slices.Clone(m.keys), nil
}

// Put implements session.Store.
func (m *Memory) Put(_ context.Context, e session.Entry, parent session.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.entries[e.ID]; known {
		return fmt.Errorf("session %s exists", e.ID)
	}
	if _, known := m.handles[parent]; known {
		return fmt.Errorf("handle of session %s exists", e.ID)
	}
	m.entries[e.ID] = e
	m.handles[parent] = memoryHandle{id: e.ID, Handle: session.Handle{Hash: parent, Made: e.Created}}
	m.confirmLocked(e)
	return nil
}

// Attach implements session.Store.
func (m *Memory) Attach(_ context.Context, id string, child session.Handle) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.entries[id]; !known {
		return session.ErrNoSession
	}
	if _, known := m.handles[child.Hash]; known {
		return fmt.Errorf("handle of session %s exists", id)
	}
	m.handles[child.Hash] = memoryHandle{id: id, Handle: child}
	same := m.handlesLocked(id, child.Host)
	for _, old := range same[:max(0, len(same)-session.MaxChildren)] {
		delete(m.handles, old.Hash)
	}
	return nil
}

// handlesLocked returns the session's handles on one host, oldest first.
func (m *Memory) handlesLocked(id, host string) []memoryHandle {
	var same []memoryHandle
	for _, h := range m.handles {
		if h.id == id && h.Host == host {
			same = append(same, h)
		}
	}
	slices.SortFunc(same, func(a, b memoryHandle) int { return a.Made.Compare(b.Made) })
	return same
}

// Renew implements session.Store.
func (m *Memory) Renew(_ context.Context, e session.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.renewLocked(e)
}

func (m *Memory) renewLocked(e session.Entry) error {
	old, known := m.entries[e.ID]
	if !known {
		return session.ErrNoSession
	}
	if old.Version != e.Version-1 {
		return session.ErrConflict
	}
	old.Identity, old.ProviderSession, old.Secrets, old.Refreshable = e.Identity, e.ProviderSession, e.Secrets, e.Refreshable
	old.Checked, old.Version = e.Checked, e.Version
	m.entries[e.ID] = old
	m.confirmLocked(e)
	m.newsLocked(session.Change{SessionID: e.ID})
	return nil
}

// Raise implements session.Store.
func (m *Memory) Raise(_ context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, known := m.handles[old]; !known || h.id != e.ID || h.Host != "" {
		return session.ErrNoSession
	}
	if _, known := m.handles[parent.Hash]; known {
		return fmt.Errorf("handle of session %s exists", e.ID)
	}
	if err := m.renewLocked(e); err != nil {
		return err
	}
	raised := m.entries[e.ID]
	raised.Raised, raised.Away = e.Raised, 0
	if e.Seen.After(raised.Seen) {
		raised.Seen = e.Seen
	}
	m.entries[e.ID] = raised
	delete(m.handles, old)
	m.handles[parent.Hash] = memoryHandle{id: e.ID, Handle: parent}
	return nil
}

// confirmLocked remembers the person, unless something newer is known of them.
func (m *Memory) confirmLocked(e session.Entry) {
	p := m.persons[e.Identity.ID()]
	if !e.Checked.Before(p.Confirmed) {
		p.Identity, p.Confirmed = e.Identity, e.Checked
	}
	p.Disabled = !p.Confirmed.After(p.disabled)
	m.persons[e.Identity.ID()] = p
}

// Get implements session.Store.
func (m *Memory) Get(_ context.Context, handle session.Hash) (session.Entry, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, known := m.handles[handle]
	if !known {
		return session.Entry{}, "", session.ErrNoSession
	}
	return m.entries[h.id], h.Host, nil
}

// List implements session.Store.
func (m *Memory) List(_ context.Context, match session.Match, after string, limit int) ([]session.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.listLocked(match, after, limit)
	for i := range found {
		for _, h := range m.handles {
			if h.id == found[i].ID && h.Host != "" {
				found[i].Hosts = append(found[i].Hosts, h.Host)
			}
		}
		slices.Sort(found[i].Hosts)
		found[i].Hosts = slices.Compact(found[i].Hosts)
	}
	return found, nil
}

func (m *Memory) listLocked(match session.Match, after string, limit int) []session.Entry {
	var found []session.Entry
	for _, e := range m.entries {
		if e.ID > after && m.matchesLocked(match, e) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b session.Entry) int { return cmp.Compare(a.ID, b.ID) })
	return found[:min(limit, len(found))]
}

func (m *Memory) matchesLocked(match session.Match, e session.Entry) bool {
	return (match.ID == "" || match.ID == e.ID) &&
		match.Except != e.ID &&
		(match.ProviderSession == "" || match.ProviderSession == e.ProviderSession) &&
		(match.UserAgent == "" || match.UserAgent == e.UserAgent) &&
		(match.Subject == "" || match.Subject == e.Identity.ID()) &&
		(match.Email == "" || strings.EqualFold(match.Email, e.Identity.Email)) &&
		(match.Provider == "" || match.Provider == e.Identity.Provider) &&
		(match.Host == "" || len(m.handlesLocked(e.ID, match.Host)) > 0) &&
		(match.CreatedBefore.IsZero() || !e.Created.After(match.CreatedBefore)) &&
		(match.SeenBefore.IsZero() || !e.Seen.After(match.SeenBefore))
}

// Count implements session.Store.
func (m *Memory) Count(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries), nil
}

// Touch implements session.Store.
func (m *Memory) Touch(_ context.Context, seen map[string]time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, t := range seen {
		if e, known := m.entries[id]; known && t.After(e.Seen) {
			e.Away = max(e.Away, t.Sub(e.Seen))
			e.Seen = t
			m.entries[id] = e
		}
	}
	return nil
}

// Detach implements session.Store.
func (m *Memory) Detach(_ context.Context, id, host, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	gone := m.handlesLocked(id, host)
	if len(gone) == 0 {
		return session.ErrNoSession
	}
	for _, h := range gone {
		delete(m.handles, h.Hash)
	}
	m.newsLocked(session.Change{SessionID: id, Host: host, Reason: reason})
	return nil
}

// Delete implements session.Store.
func (m *Memory) Delete(_ context.Context, match session.Match, reason string, limit int) ([]session.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deleteLocked(match, reason, limit), nil
}

func (m *Memory) deleteLocked(match session.Match, reason string, limit int) []session.Entry {
	gone := m.listLocked(match, "", limit)
	for _, e := range gone {
		delete(m.entries, e.ID)
		for hash, h := range m.handles {
			if h.id == e.ID {
				delete(m.handles, hash)
			}
		}
		m.newsLocked(session.Change{SessionID: e.ID, Reason: reason})
	}
	return gone
}

// Expire implements session.Store.
func (m *Memory) Expire(_ context.Context, match session.Match, now time.Time, limit int) ([]session.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	handles := maps.Clone(m.handles)
	gone := m.deleteLocked(match, session.Expired, limit)
	for _, e := range gone {
		for hash, h := range handles {
			if h.id == e.ID {
				trace := session.Trace{SessionID: e.ID, Subject: e.Identity.ID(), Host: h.Host, Created: e.Created, Seen: e.Seen}
				m.traces++
				m.past[hash] = memoryTrace{trace, m.traces, now.Add(session.PastTime)}
			}
		}
	}
	maps.DeleteFunc(m.past, func(_ session.Hash, t memoryTrace) bool { return t.n <= m.traces-session.MaxPast })
	return gone, nil
}

// Past implements session.Store.
func (m *Memory) Past(_ context.Context, handle session.Hash) (session.Trace, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, known := m.past[handle]
	if !known {
		return session.Trace{}, session.ErrNoSession
	}
	return t.Trace, nil
}

// Lease implements session.Store.
func (m *Memory) Lease(_ context.Context, name, holder string, now, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, held := m.leases[name]; held && l.holder != holder && l.until.After(now) {
		return false, nil
	}
	m.leases[name] = memoryLease{holder, until}
	return true, nil
}

// Release implements session.Store.
func (m *Memory) Release(_ context.Context, name, holder string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leases[name].holder == holder {
		delete(m.leases, name)
	}
	return nil
}

// KeepForm implements session.Store.
func (m *Memory) KeepForm(_ context.Context, f session.Form) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	held := 0
	for _, other := range m.forms {
		if other.Session == f.Session {
			return session.ErrConflict
		}
		if other.Sealed != nil {
			held++
		}
	}
	if held >= session.MaxForms {
		return session.ErrFormRefused
	}
	m.forms[f.ID] = f
	return nil
}

// Form implements session.Store.
func (m *Memory) Form(_ context.Context, id session.Hash) (session.Form, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.forms[id]
	if f.Sealed == nil {
		return session.Form{}, session.ErrNoForm
	}
	return f, nil
}

// TakeForm implements session.Store.
func (m *Memory) TakeForm(_ context.Context, id session.Hash) (session.Form, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.forms[id]
	if f.Sealed == nil {
		return session.Form{}, session.ErrNoForm
	}
	taken := f
	taken.Sealed = nil
	m.forms[id] = taken
	return f, nil
}

// Person implements session.Store.
func (m *Memory) Person(_ context.Context, subject string) (session.Person, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, known := m.persons[subject]
	if !known {
		return session.Person{}, session.ErrNoPerson
	}
	return p.Person, nil
}

// Disable implements session.Store.
func (m *Memory) Disable(_ context.Context, subject string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, known := m.persons[subject]
	if !known {
		return session.ErrNoPerson
	}
	if at.After(p.disabled) {
		p.disabled = at
	}
	p.Disabled = !p.Confirmed.After(p.disabled)
	m.persons[subject] = p
	return nil
}

// Spend implements session.Store.
func (m *Memory) Spend(_ context.Context, id string, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.spent[id]; known {
		return false, nil
	}
	m.spent[id] = until
	return true, nil
}

// Sweep implements session.Store.
func (m *Memory) Sweep(_ context.Context, now time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.spent, func(_ string, until time.Time) bool { return until.Before(now) })
	maps.DeleteFunc(m.past, func(_ session.Hash, t memoryTrace) bool { return t.until.Before(now) })
	maps.DeleteFunc(m.leases, func(_ string, l memoryLease) bool { return l.until.Before(now) })
	maps.DeleteFunc(m.forms, func(_ session.Hash, f session.Form) bool { return f.Until.Before(now) })
	maps.DeleteFunc(m.persons, func(_ string, p memoryPerson) bool { return p.Confirmed.Before(now.Add(-session.PersonTime)) })
	return false, nil
}

func (m *Memory) newsLocked(c session.Change) {
	m.changes = append(m.changes, c)
	close(m.wake)
	m.wake = make(chan struct{})
}

// Watch implements session.Store.
func (m *Memory) Watch(ctx context.Context, after session.Position, report func(session.News)) error {
	at, lost := 0, after == ""
	if !lost {
		n, err := strconv.Atoi(string(after))
		if err != nil {
			return fmt.Errorf("watching: bad position %q", after)
		}
		at = n
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		m.mu.Lock()
		if lost = lost || at > len(m.changes); lost {
			at = len(m.changes)
		}
		n := session.News{AsOf: time.Now(), Lost: lost, Changes: slices.Clone(m.changes[at:])}
		at, lost = len(m.changes), false
		n.Position = session.Position(strconv.Itoa(at))
		wake := m.wake
		m.mu.Unlock()
		report(n)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
		}
	}
}
