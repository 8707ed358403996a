package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"sallyport/authn/session"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	Run(t, func(testing.TB) func() session.Store {
		m := NewMemory()
		return func() session.Store { return m }
	})
}

// Each mutant is a store with one believable mistake. The suite is worth something if it notices each of them, by the
// check that is about it.
func TestSuiteNoticesBrokenStores(t *testing.T) {
	for _, c := range []struct {
		mistake string
		noticed string // the check that must fail
		mutant  func(*Memory) session.Store
	}{
		{"each opener makes a key", "SealingKeyIsMadeOnce", func(m *Memory) session.Store { return ownKey{m} }},
		{"spending looks before it writes", "OfManySpendersOneWins", func(m *Memory) session.Store { return slowSpend{m} }},
		{"spending is not remembered", "OfManySpendersOneWins", func(m *Memory) session.Store { return alwaysFirst{m} }},
		{"sweeping forgets all spent ids", "SweepForgetsOnlyWhatIsOver", func(m *Memory) session.Store { return cleanSweep{m} }},
		{"deleting makes no news", "NewsOfEveryEndReachesEveryStore", func(m *Memory) session.Store { return quietDelete{m} }},
		{"deleting leaves the children", "DeleteIsSeenElsewhereAtOnce", func(m *Memory) session.Store { return orphans{m, new(sync.Map)} }},
		{"deleting knows no limit", "DeleteEndsAtMostLimit", func(m *Memory) session.Store { return noLimit{m} }},
		{"renewing ignores the version", "OfManyRenewalsOneWins", func(m *Memory) session.Store { return blindRenew{m} }},
		{"touching moves back", "TouchOnlyMovesForward", func(m *Memory) session.Store { return backTouch{m} }},
		{"attaching revives the dead", "AttachedHandleHasItsHost", func(m *Memory) session.Store { return reviving{m} }},
		{"handles forget their host", "AttachedHandleHasItsHost", func(m *Memory) session.Store { return hostless{m} }},
		{"news is dated after it was gathered", "NewsIsCompleteAsOfItsTime", func(m *Memory) session.Store { return optimist{m} }},
		{"watching begins anew each time", "WatchResumesWithoutLoss", func(m *Memory) session.Store { return forgetful{m} }},
		{"watching tells no beginning", "WatchBeginsWithThePresent", func(m *Memory) session.Store { return neverLost{m} }},
		{"raising leaves the old handle alive", "RaiseReplacesTheSignInHandle", func(m *Memory) session.Store { return longLived{m} }},
		{"raising ends the children", "RaiseReplacesTheSignInHandle", func(m *Memory) session.Store { return childless{m} }},
		{"raising takes any handle", "RaiseWantsTheHandleOfTheSession", func(m *Memory) session.Store { return anyHandle{m} }},
		{"raising looks before it writes", "OfManyRaisesOneHandleLives", func(m *Memory) session.Store { return slowRaise{m} }},
		{"revoked sessions leave a trace", "ExpiredHandlesAreKnown", func(m *Memory) session.Store { return tracedDelete{m} }},
		{"traces forget their host", "ExpiredHandlesAreKnown", func(m *Memory) session.Store { return hostlessTrace{m} }},
		{"two hold one name", "OfManyClaimantsOneHolds", func(m *Memory) session.Store { return slowLease{m} }},
		{"anybody releases", "OfManyClaimantsOneHolds", func(m *Memory) session.Store { return openRelease{m} }},
		{"a form is given twice", "OfManyTakersOneGetsTheForm", func(m *Memory) session.Store { return slowTake{m} }},
		{"a taken form makes room for another", "FormIsKeptOncePerSession", func(m *Memory) session.Store { return forgottenForm{m} }},
		{"forms are kept without end", "FormsAreBounded", func(m *Memory) session.Store { return manyForms{m} }},
		{"any word of a provider enables", "PersonIsWhatWasLastConfirmed", func(m *Memory) session.Store { return eager{m} }},
		{"deleting ignores the exception", "DeleteMatchesLikeList", func(m *Memory) session.Store { return noException{m} }},
		{"listing ignores the host", "ListMatches", func(m *Memory) session.Store { return anyHost{m} }},
	} {
		t.Run(c.mistake, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(checks, func(k struct {
				name string
				run  func(t testing.TB, open func() session.Store)
			}) bool {
				return k.name == c.noticed
			})
			m := NewMemory()
			verdict := attempt(t, func(t testing.TB) {
				checks[i].run(t, func() session.Store { return c.mutant(m) })
			})
			if verdict == "" {
				t.Errorf("%s passes", c.noticed)
			}
			t.Log(verdict)
		})
	}
}

// attempt runs a check and returns why it failed, or "".
func attempt(t *testing.T, check func(testing.TB)) string {
	r := &recorder{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() { check(r) })
	wg.Wait()
	for _, f := range r.cleanups {
		f()
	}
	return r.failure
}

// recorder is a testing.TB whose failures stay with it.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failure  string
	cleanups []func()
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = fmt.Sprintf(format, args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

type ownKey struct{ session.Store }

func (s ownKey) SealingKeys(ctx context.Context) ([]session.SealingKey, error) {
	return NewMemory().SealingKeys(ctx)
}

type slowSpend struct{ *Memory }

func (s slowSpend) Spend(_ context.Context, id string, until time.Time) (bool, error) {
	s.mu.Lock()
	_, known := s.spent[id]
	s.mu.Unlock()
	runtime.Gosched()
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spent[id] = until
	return !known, nil
}

type alwaysFirst struct{ *Memory }

func (s alwaysFirst) Spend(context.Context, string, time.Time) (bool, error) { return true, nil }

type cleanSweep struct{ *Memory }

func (s cleanSweep) Sweep(context.Context, time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.spent)
	return false, nil
}

type quietDelete struct{ *Memory }

func (s quietDelete) Delete(ctx context.Context, m session.Match, reason string, limit int) ([]session.Entry, error) {
	s.mu.Lock()
	known := s.changes
	s.mu.Unlock()
	gone, err := s.Memory.Delete(ctx, m, reason, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = known
	return gone, err
}

type orphans struct {
	*Memory
	children *sync.Map
}

func (s orphans) Attach(ctx context.Context, id string, h session.Handle) error {
	e, err := s.List(ctx, session.Match{ID: id}, "", 1)
	if err == nil && len(e) == 1 {
		s.children.Store(h.Hash, e[0])
	}
	return s.Memory.Attach(ctx, id, h)
}

func (s orphans) Get(ctx context.Context, h session.Hash) (session.Entry, string, error) {
	e, host, err := s.Memory.Get(ctx, h)
	if left, ok := s.children.Load(h); err != nil && ok {
		return left.(session.Entry), "", nil
	}
	return e, host, err
}

type noLimit struct{ *Memory }

func (s noLimit) Delete(ctx context.Context, m session.Match, reason string, _ int) ([]session.Entry, error) {
	return s.Memory.Delete(ctx, m, reason, 1<<30)
}

type blindRenew struct{ *Memory }

func (s blindRenew) Renew(ctx context.Context, e session.Entry) error {
	s.mu.Lock()
	old := s.entries[e.ID]
	old.Version = e.Version - 1
	s.entries[e.ID] = old
	s.mu.Unlock()
	return s.Memory.Renew(ctx, e)
}

type backTouch struct{ *Memory }

func (s backTouch) Touch(_ context.Context, seen map[string]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range seen {
		if e, known := s.entries[id]; known {
			e.Seen = t
			s.entries[id] = e
		}
	}
	return nil
}

type reviving struct{ *Memory }

func (s reviving) Attach(ctx context.Context, id string, h session.Handle) error {
	s.mu.Lock()
	s.entries[id] = Entry(0)
	s.mu.Unlock()
	return s.Memory.Attach(ctx, id, h)
}

type hostless struct{ *Memory }

func (s hostless) Get(ctx context.Context, h session.Hash) (session.Entry, string, error) {
	e, _, err := s.Memory.Get(ctx, h)
	return e, "", err
}

type optimist struct{ *Memory }

func (s optimist) Watch(ctx context.Context, after session.Position, report func(session.News)) error {
	return s.Memory.Watch(ctx, after, func(n session.News) {
		for range 20 { // which is enough for something to be committed meanwhile
			time.Sleep(20 * time.Millisecond)
			if s.grown(n.Position) {
				break
			}
		}
		time.Sleep(20 * time.Millisecond)
		n.AsOf = time.Now()
		report(n)
	})
}

func (s optimist) grown(since session.Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return session.Position(strconv.Itoa(len(s.changes))) != since
}

type forgetful struct{ *Memory }

func (s forgetful) Watch(ctx context.Context, _ session.Position, report func(session.News)) error {
	return s.Memory.Watch(ctx, "", report)
}

type neverLost struct{ *Memory }

func (s neverLost) Watch(ctx context.Context, after session.Position, report func(session.News)) error {
	return s.Memory.Watch(ctx, after, func(n session.News) {
		n.Lost = false
		report(n)
	})
}

type anyHost struct{ *Memory }

func (s anyHost) List(ctx context.Context, m session.Match, after string, limit int) ([]session.Entry, error) {
	m.Host = ""
	return s.Memory.List(ctx, m, after, limit)
}

type longLived struct{ *Memory }

func (s longLived) Raise(ctx context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	s.mu.Lock()
	h := s.handles[old]
	s.mu.Unlock()
	err := s.Memory.Raise(ctx, e, old, parent)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handles[old] = h
	return err
}

type childless struct{ *Memory }

func (s childless) Raise(ctx context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	s.mu.Lock()
	maps.DeleteFunc(s.handles, func(_ session.Hash, h memoryHandle) bool { return h.id == e.ID && h.Host != "" })
	s.mu.Unlock()
	return s.Memory.Raise(ctx, e, old, parent)
}

type anyHandle struct{ *Memory }

func (s anyHandle) Raise(ctx context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	s.mu.Lock()
	s.handles[old] = memoryHandle{id: e.ID, Handle: session.Handle{Hash: old}}
	s.mu.Unlock()
	return s.Memory.Raise(ctx, e, old, parent)
}

type slowRaise struct{ *Memory }

func (s slowRaise) Raise(ctx context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	found, _, err := s.Get(ctx, old)
	if err != nil {
		return err
	}
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handles, old)
	s.handles[parent.Hash] = memoryHandle{id: found.ID, Handle: parent}
	return nil
}

type tracedDelete struct{ *Memory }

func (s tracedDelete) Delete(ctx context.Context, m session.Match, _ string, limit int) ([]session.Entry, error) {
	return s.Expire(ctx, m, noon, limit)
}

type hostlessTrace struct{ *Memory }

func (s hostlessTrace) Past(ctx context.Context, h session.Hash) (session.Trace, error) {
	t, err := s.Memory.Past(ctx, h)
	t.Host = ""
	return t, err
}

type slowLease struct{ *Memory }

func (s slowLease) Lease(_ context.Context, name, holder string, now, until time.Time) (bool, error) {
	s.mu.Lock()
	l, held := s.leases[name]
	s.mu.Unlock()
	time.Sleep(time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases[name] = memoryLease{holder, until}
	return !held || l.holder == holder || !l.until.After(now), nil
}

type openRelease struct{ *Memory }

func (s openRelease) Release(_ context.Context, name, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, name)
	return nil
}

type slowTake struct{ *Memory }

func (s slowTake) TakeForm(ctx context.Context, id session.Hash) (session.Form, error) {
	f, err := s.Form(ctx, id)
	time.Sleep(time.Millisecond)
	s.Memory.TakeForm(ctx, id)
	return f, err
}

type forgottenForm struct{ *Memory }

func (s forgottenForm) TakeForm(ctx context.Context, id session.Hash) (session.Form, error) {
	f, err := s.Memory.TakeForm(ctx, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.forms, id)
	return f, err
}

type manyForms struct{ *Memory }

func (s manyForms) KeepForm(ctx context.Context, f session.Form) error {
	err := s.Memory.KeepForm(ctx, f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, session.ErrFormRefused) {
		s.forms[f.ID] = f
		return nil
	}
	return err
}

type eager struct{ *Memory }

func (s eager) Renew(ctx context.Context, e session.Entry) error {
	err := s.Memory.Renew(ctx, e)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.persons[e.Identity.ID()]
	p.Disabled = false
	s.persons[e.Identity.ID()] = p
	return err
}

type noException struct{ *Memory }

func (s noException) Delete(ctx context.Context, m session.Match, reason string, limit int) ([]session.Entry, error) {
	m.Except = ""
	return s.Memory.Delete(ctx, m, reason, limit)
}
