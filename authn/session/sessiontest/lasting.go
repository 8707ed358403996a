package sessiontest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/authn/session"
)

func touchRemembersTheLongestPause(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	for _, c := range []struct{ seen, away time.Duration }{
		{time.Minute, time.Minute}, {time.Hour, 59 * time.Minute}, {61 * time.Minute, 59 * time.Minute}, {time.Minute, 59 * time.Minute},
	} {
		if err := s.Touch(t.Context(), map[string]time.Time{Entry(1).ID: noon.Add(c.seen)}); err != nil {
			t.Fatalf("Touch: %v", err)
		}
		if got := present(t, s, hash(1)).Away; got != c.away {
			t.Fatalf("after it was seen %v later, the longest pause is %v, want %v", c.seen, got, c.away)
		}
	}
}

// raised is what Raise makes of Entry(1) as it was put.
func raised() session.Entry {
	e := Entry(1)
	e.Identity = identity(1, "other@example.test", "audit")
	e.Secrets, e.Refreshable, e.ProviderSession, e.Version = []byte("two"), true, "sid 2", 2
	e.Checked, e.Raised, e.Seen = noon.Add(time.Hour), noon.Add(time.Hour), noon.Add(time.Hour)
	return e
}

func raiseReplacesTheSignInHandle(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	put(t, a, Entry(1), hash(1))
	attach(t, a, 1, "wiki.example", hash(11), 0)
	if err := a.Touch(t.Context(), map[string]time.Time{Entry(1).ID: noon.Add(time.Minute)}); err != nil {
		t.Fatalf("Touch: %v", err)
	}
	w := watch(t, b, "")
	if err := a.Raise(t.Context(), raised(), hash(1), session.Handle{Hash: hash(2), Made: noon}); err != nil {
		t.Fatalf("Raise: %v", err)
	}
	for _, s := range []session.Store{a, b} {
		absent(t, s, hash(1))
		if diff := cmp.Diff(raised(), present(t, s, hash(2))); diff != "" {
			t.Fatalf("after Raise (-want +got):\n%s", diff)
		}
		present(t, s, hash(11))
	}
	if _, host, err := a.Get(t.Context(), hash(2)); err != nil || host != "" {
		t.Fatalf("the new handle is for host %q, %v; want the sign-in host", host, err)
	}
	w.expect(session.Change{SessionID: Entry(1).ID})
}

// raiseWantsTheHandleOfTheSession covers handles that are dead, another session's, or an app host's.
func raiseWantsTheHandleOfTheSession(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	put(t, s, Entry(2), hash(2))
	attach(t, s, 1, "wiki.example", hash(11), 0)
	for _, old := range []int{2, 3, 11} {
		err := s.Raise(t.Context(), raised(), hash(old), session.Handle{Hash: hash(20 + old), Made: noon})
		if !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("Raise from a handle that is not the session's: %v, want ErrNoSession", err)
		}
		absent(t, s, hash(20+old))
	}
	late := raised()
	late.Version = 3
	if err := s.Raise(t.Context(), late, hash(1), session.Handle{Hash: hash(30), Made: noon}); !errors.Is(err, session.ErrConflict) {
		t.Fatalf("Raise from another version: %v, want ErrConflict", err)
	}
	absent(t, s, hash(30))
	for n, want := range map[int]session.Entry{1: Entry(1), 2: Entry(2), 11: Entry(1)} {
		if diff := cmp.Diff(want, present(t, s, hash(n))); diff != "" {
			t.Fatalf("after refused Raises (-want +got):\n%s", diff)
		}
	}
}

func ofManyRaisesOneHandleLives(t testing.TB, open func() session.Store) {
	stores := []session.Store{open(), open()}
	put(t, stores[0], Entry(1), hash(1))
	won := race(20, func(i int) bool {
		err := stores[i%2].Raise(t.Context(), raised(), hash(1), session.Handle{Hash: hash(100 + i), Made: noon})
		if err != nil && !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrNoSession) {
			t.Errorf("Raise: %v", err)
		}
		return err == nil
	})
	if len(won) != 1 {
		t.Fatalf("%d of 20 raised one handle, want 1", len(won))
	}
	absent(t, stores[0], hash(1))
	for i := range 20 {
		if i == won[0] {
			present(t, stores[1], hash(100+i))
		} else {
			absent(t, stores[1], hash(100+i))
		}
	}
}

func listNamesHosts(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	put(t, s, Entry(2), hash(2))
	for i, host := range []string{"wiki.example", "payroll.example", "wiki.example"} {
		attach(t, s, 1, host, hash(10+i), time.Duration(i))
	}
	got := list(t, s, session.Match{})
	if !slices.Equal(got[0].Hosts, []string{"payroll.example", "wiki.example"}) || got[1].Hosts != nil {
		t.Fatalf("List names hosts %q and %q", got[0].Hosts, got[1].Hosts)
	}
}

func countCounts(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	for want := range 3 {
		if got := must(b.Count(t.Context()))(t); got != want {
			t.Fatalf("Count = %d, want %d", got, want)
		}
		put(t, a, Entry(want), hash(want))
	}
}

func expiredHandlesAreKnown(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	for i := range 4 {
		put(t, a, Entry(i), hash(i))
		attach(t, a, i, "wiki.example", hash(10+i), 0)
	}
	w := watch(t, b, "")
	gone := must(a.Expire(t.Context(), session.Match{ID: Entry(1).ID}, noon.Add(time.Hour), 10))(t)
	if diff := cmp.Diff([]session.Entry{Entry(1)}, gone); diff != "" {
		t.Fatalf("Expire returned (-want +got):\n%s", diff)
	}
	w.expect(session.Change{SessionID: Entry(1).ID, Reason: session.Expired})
	for n, host := range map[int]string{1: "", 11: "wiki.example"} {
		absent(t, b, hash(n))
		want := session.Trace{SessionID: Entry(1).ID, Subject: Entry(1).Identity.ID(), Host: host, Created: noon, Seen: noon}
		if got := must(b.Past(t.Context(), hash(n)))(t); got != want {
			t.Fatalf("Past = %+v, want %+v", got, want)
		}
	}
	for i, reason := range []string{2: session.Revoked, 3: session.SignedOut} {
		if reason != "" {
			must(a.Delete(t.Context(), session.Match{ID: Entry(i).ID}, reason, 10))(t)
		}
	}
	for _, n := range []int{0, 2, 3, 10, 12, 13, 99} { // alive, revoked, signed out, never made
		if got, err := b.Past(t.Context(), hash(n)); !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("Past of handle %d = %+v, %v; want ErrNoSession", n, got, err)
		}
	}
}

func expireTakesAtMostLimit(t testing.TB, open func() session.Store) {
	s := open()
	for i := range 5 {
		put(t, s, Entry(i), hash(i))
	}
	known := 0
	for _, want := range []int{3, 2, 0} {
		gone := must(s.Expire(t.Context(), session.Match{CreatedBefore: noon}, noon, 3))(t)
		if len(gone) != want {
			t.Fatalf("Expire by three = %d, want %d", len(gone), want)
		}
	}
	for i := range 5 {
		if _, err := s.Past(t.Context(), hash(i)); err == nil {
			known++
		}
	}
	if known != 5 {
		t.Fatalf("%d of 5 expired handles are known", known)
	}
}

func ofManyClaimantsOneHolds(t testing.TB, open func() session.Store) {
	stores := []session.Store{open(), open()}
	hold := func(i int, name string, now time.Duration) bool {
		mine, err := stores[i%2].Lease(t.Context(), name, fmt.Sprint(i), noon.Add(now), noon.Add(now+time.Minute))
		if err != nil {
			t.Errorf("Lease: %v", err)
		}
		return mine
	}
	for round := range 5 {
		if won := race(20, func(i int) bool { return hold(i, fmt.Sprint("refresh ", round), 0) }); len(won) != 1 {
			t.Fatalf("%d of 20 hold one name, want 1", len(won))
		}
	}
	if !hold(1, "a", 0) || hold(2, "a", time.Minute-1) || !hold(2, "a", time.Minute) || hold(1, "a", time.Minute) {
		t.Fatalf("a name is not held for as long as it was given")
	}
	if !hold(2, "a", time.Minute+1) {
		t.Fatalf("the holder cannot hold on")
	}
	for _, c := range []struct {
		releases string
		free     bool
	}{{"1", false}, {"2", true}, {"2", true}} {
		if err := stores[0].Release(t.Context(), "a", c.releases); err != nil {
			t.Fatalf("Release: %v", err)
		}
		if got := hold(3, "a", time.Minute); got != c.free {
			t.Fatalf("after Release by %s the name is free: %v, want %v", c.releases, got, c.free)
		}
		if c.free {
			must(0, stores[1].Release(t.Context(), "a", "3"))(t)
		}
	}
}

func form(n int) session.Form {
	return session.Form{ID: hash(n), Session: Entry(n).ID, Sealed: fmt.Append(nil, "sealed ", n), Until: noon.Add(time.Hour)}
}

func keep(t testing.TB, s session.Store, f session.Form) {
	t.Helper()
	if err := s.KeepForm(t.Context(), f); err != nil {
		t.Fatalf("KeepForm: %v", err)
	}
}

func formIsKeptOncePerSession(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	keep(t, a, form(1))
	second := form(2)
	second.Session = form(1).Session
	if err := b.KeepForm(t.Context(), second); !errors.Is(err, session.ErrConflict) {
		t.Fatalf("a second form of a session: %v, want ErrConflict", err)
	}
	for range 2 {
		if diff := cmp.Diff(form(1), must(b.Form(t.Context(), hash(1)))(t)); diff != "" {
			t.Fatalf("Form differs from KeepForm (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff(form(1), must(b.TakeForm(t.Context(), hash(1)))(t)); diff != "" {
		t.Fatalf("TakeForm differs from KeepForm (-want +got):\n%s", diff)
	}
	if err := a.KeepForm(t.Context(), second); !errors.Is(err, session.ErrConflict) {
		t.Fatalf("a second form after the first was taken: %v, want ErrConflict", err)
	}
	for _, n := range []int{1, 2} {
		if _, err := a.Form(t.Context(), hash(n)); !errors.Is(err, session.ErrNoForm) {
			t.Fatalf("Form that was taken or refused: %v, want ErrNoForm", err)
		}
	}
}

func ofManyTakersOneGetsTheForm(t testing.TB, open func() session.Store) {
	stores := []session.Store{open(), open()}
	for round := range 5 {
		keep(t, stores[0], form(round))
		won := race(20, func(i int) bool {
			_, err := stores[i%2].TakeForm(t.Context(), hash(round))
			if err != nil && !errors.Is(err, session.ErrNoForm) {
				t.Errorf("TakeForm: %v", err)
			}
			return err == nil
		})
		if len(won) != 1 {
			t.Fatalf("%d of 20 took one form, want 1", len(won))
		}
	}
}

func formsAreBounded(t testing.TB, open func() session.Store) {
	s := open()
	for i := range session.MaxForms {
		keep(t, s, form(i))
	}
	if err := s.KeepForm(t.Context(), form(session.MaxForms)); !errors.Is(err, session.ErrFormRefused) {
		t.Fatalf("one form too many: %v, want ErrFormRefused", err)
	}
	must(s.TakeForm(t.Context(), hash(1)))(t)
	keep(t, s, form(session.MaxForms))
}

func personIsWhatWasLastConfirmed(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	who := Entry(1).Identity.ID()
	expect := func(what, email string, confirmed time.Duration, disabled bool) {
		t.Helper()
		p := must(b.Person(t.Context(), who))(t)
		if p.Identity.Email != email || !p.Confirmed.Equal(noon.Add(confirmed)) || p.Disabled != disabled {
			t.Fatalf("after %s the person is %s, confirmed %v, disabled %v", what, p.Identity.Email, p.Confirmed, p.Disabled)
		}
	}
	disable := func(after time.Duration) {
		t.Helper()
		if err := a.Disable(t.Context(), who, noon.Add(after)); err != nil {
			t.Fatalf("Disable: %v", err)
		}
	}
	if _, err := a.Person(t.Context(), who); !errors.Is(err, session.ErrNoPerson) {
		t.Fatalf("Person nobody knows: %v, want ErrNoPerson", err)
	}
	if err := a.Disable(t.Context(), who, noon); !errors.Is(err, session.ErrNoPerson) {
		t.Fatalf("Disable nobody: %v, want ErrNoPerson", err)
	}
	put(t, a, Entry(1), hash(1))
	expect("Put", "person1@example.test", 0, false)
	disable(time.Minute)
	expect("Disable", "person1@example.test", 0, true)
	e := raised()
	e.Checked = noon.Add(time.Minute)
	must(0, a.Renew(t.Context(), e))(t)
	expect("Renew with what was said before", "other@example.test", time.Minute, true)
	e.Version, e.Checked = 3, noon.Add(2*time.Minute)
	must(0, a.Renew(t.Context(), e))(t)
	expect("Renew", "other@example.test", 2*time.Minute, false)
	disable(3 * time.Minute)
	disable(time.Minute)
	expect("Disable that comes late", "other@example.test", 2*time.Minute, true)
	old := Entry(2)
	old.Identity = Entry(1).Identity
	put(t, a, old, hash(2))
	expect("Put with what was said before", "other@example.test", 2*time.Minute, true)
	must(a.Delete(t.Context(), session.Match{Subject: who}, session.SignedOut, 10))(t)
	expect("the last sign-out", "other@example.test", 2*time.Minute, true)
}

func sweepForgetsEachInItsTime(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	put(t, s, Entry(2), hash(2))
	must(s.Expire(t.Context(), session.Match{ID: Entry(1).ID}, noon, 1))(t)
	must(s.Lease(t.Context(), "a", "1", noon, noon.Add(session.PastTime)))(t)
	keep(t, s, form(1))
	person := Entry(1).Identity.ID()
	past := func() error { _, err := s.Past(t.Context(), hash(1)); return err }
	held := func() error { _, err := s.Form(t.Context(), hash(1)); return err }
	known := func() error { _, err := s.Person(t.Context(), person); return err }
	for _, c := range []struct {
		after             time.Duration
		past, form, known bool
	}{
		{session.PastTime - 1, true, true, true},
		{session.PastTime + 1, false, false, true},
		{session.PersonTime - 1, false, false, true},
		{session.PersonTime + 1, false, false, false},
	} {
		for more := true; more; {
			more = must(s.Sweep(t.Context(), noon.Add(c.after)))(t)
		}
		if (past() == nil) != c.past || (held() == nil) != c.form || (known() == nil) != c.known {
			t.Fatalf("after %v there are: past %v, form %v, person %v", c.after, past(), held(), known())
		}
	}
	present(t, s, hash(2))
	keep(t, s, form(1)) // nothing of the session is left
}
