package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sallyport/authn"
	"sallyport/authn/recheck"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
)

const (
	fewSessions  = 1_000
	manySessions = 200_000
	// flat is how many times longer something may take with many sessions than with few, before it counts as growing. What
	// looked through all of them would take 200 times as long; indexes and pages cost a little.
	flat = 4
)

// What a sign-in, the first look-up of a session, a hot look-up and revocations take in a store with 200,000 sessions and in
// one with 1,000, turn by turn.
func BenchmarkSessions(b *testing.B) {
	few, many := newSessions(b, fewSessions), newSessions(b, manySessions)
	table := []struct {
		name  string
		times int // in one turn
		do    func(*sessions, int)
	}{
		{"sign-in", 40, (*sessions).signIn},
		{"look-up, cold", 40, (*sessions).cold},
		{"look-up, hot", 20_000, (*sessions).hot},
		{"revoke one", 40, (*sessions).revokeOne},
		{"revoke a person's", 40, (*sessions).revokePerson},
		{"count", 40, (*sessions).count},
	}
	for b.Loop() {
		for _, row := range table {
			var with, without []time.Duration
			for range 7 {
				without = append(without, few.turn(row.times, row.do))
				with = append(with, many.turn(row.times, row.do))
			}
			small, large := midmost(without), midmost(with)
			ratio := float64(large) / float64(max(small, 1))
			b.Logf("%-18s %10v with %d sessions, %10v with %d: %.2f times", row.name, small, fewSessions, large, manySessions, ratio)
			b.ReportMetric(ratio, metricName(row.name))
			if ratio > flat {
				b.Errorf("%s takes %.1f times as long with %d sessions as with %d: want at most %d", row.name, ratio, manySessions, fewSessions, flat)
			}
		}
	}
}

func metricName(row string) string {
	return string(slices.DeleteFunc([]byte(row), func(c byte) bool { return c == ' ' || c == ',' || c == '\'' })) + "-ratio"
}

func midmost(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// sessions is a store with many sessions, its keeper, and what rechecks the hot one.
type sessions struct {
	b       *testing.B
	keeper  *session.Keeper
	recheck *recheck.Rechecker
	handles []string // of sessions that were never looked up here
	made    int
	hotOne  string
}

func newSessions(b *testing.B, n int) *sessions {
	b.Helper()
	store, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	limits := session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour, Recheck: 15 * time.Minute, RecheckInBrowser: time.Hour, MaxPerPerson: 100}
	filling, err := session.NewKeeper(limits, store, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := &sessions{b: b, keeper: filling}
	s.fill(n)
	if s.keeper, err = session.NewKeeper(limits, store, nil, nil); err != nil { // remembers nothing of those
		b.Fatal(err)
	}
	var nobody recheck.Provider = idle{}
	s.recheck = recheck.New(recheck.Config{Sessions: s.keeper, Limits: s.keeper.Limits, Provider: func(string) recheck.Provider { return nobody }})
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { s.keeper.Run(ctx) })
	b.Cleanup(func() { stop(); group.Wait(); store.Close() })
	s.hotOne = s.make(-1)
	return s
}

// idle is a provider that is never asked.
type idle struct{ recheck.Provider }

// fill makes the sessions, many at a time: they share commits.
func (s *sessions) fill(n int) {
	s.handles = make([]string, n)
	var group sync.WaitGroup
	const workers = 256
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				s.handles[i] = s.make(i)
			}
		})
	}
	group.Wait()
	s.made = n
}

// make signs somebody in; two sessions belong to each person.
func (s *sessions) make(i int) (handle string) {
	list := make([]string, groups)
	for g := range list {
		list[g] = fmt.Sprintf("department-%02d-readers", g)
	}
	id, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: subjectOf(i), Email: subjectOf(i) + "@corp.test", Groups: list})
	if err != nil {
		s.b.Error(err)
		return ""
	}
	handle, _, err = s.keeper.SignIn(context.Background(), session.NewSession{Identity: id, UserAgent: "Mozilla/5.0 (X11; Linux x86_64)", Address: "192.0.2.1",
		Secrets: session.Secrets{RefreshToken: "refresh-" + subjectOf(i)}})
	if err != nil {
		s.b.Error(err)
	}
	return handle
}

func subjectOf(i int) string { return fmt.Sprintf("person-%06d", i/2) }

// turn is how long one of so many takes.
func (s *sessions) turn(times int, do func(*sessions, int)) time.Duration {
	began := time.Now()
	for range times {
		do(s, s.made)
		s.made++
	}
	return time.Since(began) / time.Duration(times)
}

func (s *sessions) signIn(i int) { s.make(i) }

func (s *sessions) cold(i int) { s.look(s.unseen(i)) }

// unseen is the handle of a session that was not looked up yet.
func (s *sessions) unseen(i int) string {
	if len(s.handles) == 0 {
		return s.make(i)
	}
	handle := s.handles[0]
	s.handles = s.handles[1:]
	return handle
}

func (s *sessions) hot(int) { s.look(s.hotOne) }

func (s *sessions) look(handle string) *session.Session {
	found, err := s.keeper.SignedIn(s.b.Context(), handle)
	if err == nil {
		found, err = s.recheck.Current(s.b.Context(), found)
	}
	if err != nil {
		s.b.Errorf("looking up: %v", err)
	}
	return found
}

func (s *sessions) revokeOne(i int) {
	found := s.look(s.unseen(i))
	if found == nil {
		return
	}
	if ended, err := s.keeper.Revoke(s.b.Context(), session.Filter{ID: found.ID}); err != nil || len(ended) != 1 {
		s.b.Errorf("%d sessions ended, %v", len(ended), err)
	}
}

func (s *sessions) revokePerson(i int) {
	who := subjectOf(i)
	s.make(i)
	if ended, err := s.keeper.Revoke(s.b.Context(), session.Filter{Subject: "corp|" + who}); err != nil || len(ended) == 0 {
		s.b.Errorf("%d sessions of %s ended, %v", len(ended), who, err)
	}
}

func (s *sessions) count(int) {
	if n, err := s.keeper.Count(s.b.Context()); err != nil || n == 0 {
		s.b.Errorf("counted %d, %v", n, err)
	}
}
