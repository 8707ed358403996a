// Package sessiontest is the suite that every session.Store passes, and a Store in memory for tests of its users.
package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/authn"
	"sallyport/authn/session"
)

// Place makes a new empty place for sessions, and returns a function that opens a store there: each call as another
// process would. What it opens, it closes when the test ends.
type Place func(t testing.TB) (open func() session.Store)

// Run checks every sentence of session.Store's contract that a test can check.
func Run(t *testing.T, place Place) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, place(t)) })
	}
}

// newsWithin is how soon news must arrive; the contract says a second, a busy machine gets more.
const newsWithin = 15 * time.Second

var checks = []struct {
	name string
	run  func(t testing.TB, open func() session.Store)
}{
	{"SealingKeyIsMadeOnce", sealingKeyIsMadeOnce},
	{"GetReturnsWhatWasPut", getReturnsWhatWasPut},
	{"PutOfKnownIDOrHandleChangesNothing", putOfKnownIDOrHandleChangesNothing},
	{"AttachedHandleHasItsHost", attachedHandleHasItsHost},
	{"AttachKeepsTheNewestHandles", attachKeepsTheNewestHandles},
	{"NoHandleOutlivesItsSession", noHandleOutlivesItsSession},
	{"RenewComparesVersions", renewComparesVersions},
	{"OfManyRenewalsOneWins", ofManyRenewalsOneWins},
	{"ListMatches", listMatches},
	{"DeleteMatchesLikeList", deleteMatchesLikeList},
	{"ListPages", listPages},
	{"TouchOnlyMovesForward", touchOnlyMovesForward},
	{"DetachEndsOneHost", detachEndsOneHost},
	{"DeleteEndsAtMostLimit", deleteEndsAtMostLimit},
	{"DeleteIsSeenElsewhereAtOnce", deleteIsSeenElsewhereAtOnce},
	{"OfManySpendersOneWins", ofManySpendersOneWins},
	{"SweepForgetsOnlyWhatIsOver", sweepForgetsOnlyWhatIsOver},
	{"WatchBeginsWithThePresent", watchBeginsWithThePresent},
	{"NewsOfEveryEndReachesEveryStore", newsOfEveryEndReachesEveryStore},
	{"NewsIsCompleteAsOfItsTime", newsIsCompleteAsOfItsTime},
	{"WatchResumesWithoutLoss", watchResumesWithoutLoss},
	{"TouchRemembersTheLongestPause", touchRemembersTheLongestPause},
	{"RaiseReplacesTheSignInHandle", raiseReplacesTheSignInHandle},
	{"RaiseWantsTheHandleOfTheSession", raiseWantsTheHandleOfTheSession},
	{"OfManyRaisesOneHandleLives", ofManyRaisesOneHandleLives},
	{"ListNamesHosts", listNamesHosts},
	{"CountCounts", countCounts},
	{"ExpiredHandlesAreKnown", expiredHandlesAreKnown},
	{"ExpireTakesAtMostLimit", expireTakesAtMostLimit},
	{"OfManyClaimantsOneHolds", ofManyClaimantsOneHolds},
	{"FormIsKeptOncePerSession", formIsKeptOncePerSession},
	{"OfManyTakersOneGetsTheForm", ofManyTakersOneGetsTheForm},
	{"FormsAreBounded", formsAreBounded},
	{"PersonIsWhatWasLastConfirmed", personIsWhatWasLastConfirmed},
	{"SweepForgetsEachInItsTime", sweepForgetsEachInItsTime},
}

// noon is when the sessions of the suite are made.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 123456789, time.UTC)

func sealingKeyIsMadeOnce(t testing.TB, open func() session.Store) {
	var stores []session.Store
	for range 4 {
		stores = append(stores, open())
	}
	got := make([][]session.SealingKey, len(stores))
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() { got[i], _ = s.SealingKeys(t.Context()) })
	}
	wg.Wait()
	for _, keys := range append(got, must(open().SealingKeys(t.Context()))(t)) {
		if len(keys) != 1 || keys[0].Secret == (session.Secret{}) || !slices.Equal(keys, got[0]) {
			t.Fatalf("stores of one place have keys of their own, or none: %d and %d", len(keys), len(got[0]))
		}
	}
}

func getReturnsWhatWasPut(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	want := Entry(1)
	want.Secrets, want.Refreshable, want.ProviderSession = []byte("sealed\x00"), true, "sid"
	want.Bound = session.Bound{Certificate: "CN=ada", Network: "office"}
	put(t, a, want, hash(1))
	for _, s := range []session.Store{a, b} {
		got, host, err := s.Get(t.Context(), hash(1))
		if err != nil || host != "" {
			t.Fatalf("Get = host %q, error %v; want the sign-in host", host, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Get differs from Put (-want +got):\n%s", diff)
		}
	}
	if _, _, err := a.Get(t.Context(), hash(2)); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Get of an unknown handle: %v, want ErrNoSession", err)
	}
}

func putOfKnownIDOrHandleChangesNothing(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	if err := s.Put(t.Context(), Entry(1), hash(2)); err == nil {
		t.Fatalf("Put of a known id succeeded")
	}
	if err := s.Put(t.Context(), Entry(2), hash(1)); err == nil {
		t.Fatalf("Put of a known handle succeeded")
	}
	if got := ids(list(t, s, session.Match{})); !slices.Equal(got, []string{Entry(1).ID}) {
		t.Fatalf("after refused Puts the store holds %v, want only the first", got)
	}
	absent(t, s, hash(2))
}

func attachedHandleHasItsHost(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	attach(t, s, 1, "wiki.example", hash(2), 0)
	e, host, err := s.Get(t.Context(), hash(2))
	if err != nil || host != "wiki.example" || e.ID != Entry(1).ID {
		t.Fatalf("Get of a child = %q on %q, %v", e.ID, host, err)
	}
	err = s.Attach(t.Context(), "nobody", session.Handle{Hash: hash(3), Host: "wiki.example", Made: noon})
	if !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Attach to an unknown session: %v, want ErrNoSession", err)
	}
	absent(t, s, hash(3))
}

func attachKeepsTheNewestHandles(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(0))
	attach(t, s, 1, "other.example", hash(1), 0)
	for i := range session.MaxChildren + 3 {
		attach(t, s, 1, "wiki.example", hash(100+i), time.Duration(i)*time.Second)
	}
	for i := range 3 {
		absent(t, s, hash(100+i))
	}
	for _, n := range []int{0, 1, 103, 100 + session.MaxChildren + 2} {
		present(t, s, hash(n))
	}
}

// noHandleOutlivesItsSession attaches while the session is deleted: whoever comes first, nothing is left.
func noHandleOutlivesItsSession(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	for round := range 20 {
		put(t, a, Entry(round), hash(3*round))
		var wg sync.WaitGroup
		wg.Go(func() {
			h := session.Handle{Hash: hash(3*round + 1), Host: "wiki.example", Made: noon}
			if err := b.Attach(t.Context(), Entry(round).ID, h); err != nil && !errors.Is(err, session.ErrNoSession) {
				t.Errorf("Attach: %v", err)
			}
		})
		if _, err := a.Delete(t.Context(), session.Match{ID: Entry(round).ID}, session.Revoked, 10); err != nil {
			t.Errorf("Delete: %v", err)
		}
		wg.Wait()
		for _, s := range []session.Store{a, b} {
			absent(t, s, hash(3*round))
			absent(t, s, hash(3*round+1))
		}
	}
}

func renewComparesVersions(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	want := Entry(1)
	want.Identity = identity(1, "other@example.test", "audit")
	want.Secrets, want.Refreshable, want.ProviderSession, want.Version = []byte("two"), true, "sid 2", 2
	want.Checked = noon.Add(time.Minute)
	if err := s.Renew(t.Context(), want); err != nil {
		t.Fatalf("Renew: %v", err)
	}
	if diff := cmp.Diff(want, present(t, s, hash(1))); diff != "" {
		t.Fatalf("after Renew (-want +got):\n%s", diff)
	}
	if err := s.Renew(t.Context(), want); !errors.Is(err, session.ErrConflict) {
		t.Fatalf("Renew of an old version: %v, want ErrConflict", err)
	}
	gone := Entry(9)
	gone.Version = 2
	if err := s.Renew(t.Context(), gone); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Renew of an unknown session: %v, want ErrNoSession", err)
	}
	if got := ids(list(t, s, session.Match{Email: "OTHER@example.test"})); len(got) != 1 {
		t.Fatalf("the new e-mail address finds %v", got)
	}
}

func ofManyRenewalsOneWins(t testing.TB, open func() session.Store) {
	stores := []session.Store{open(), open()}
	put(t, stores[0], Entry(1), hash(1))
	won := race(20, func(i int) bool {
		e := Entry(1)
		e.Version, e.Secrets = 2, fmt.Append(nil, i)
		err := stores[i%2].Renew(t.Context(), e)
		if err != nil && !errors.Is(err, session.ErrConflict) {
			t.Errorf("Renew: %v", err)
		}
		return err == nil
	})
	if len(won) != 1 || string(present(t, stores[0], hash(1)).Secrets) != fmt.Sprint(won[0]) {
		t.Fatalf("renewals %v of one version won, want one, and its token kept", won)
	}
}

func listMatches(t testing.TB, open func() session.Store) {
	s := open()
	for i := range 4 {
		e := Entry(i)
		e.Created = noon.Add(time.Duration(i) * time.Hour)
		e.Seen = e.Created.Add(time.Minute)
		e.ProviderSession, e.UserAgent = fmt.Sprint("sid ", i/2), fmt.Sprint("Browser ", i)
		put(t, s, e, hash(i))
	}
	attach(t, s, 2, "wiki.example", hash(10), 0)
	for _, c := range []struct {
		name string
		m    session.Match
		want []int
	}{
		{"everything", session.Match{}, []int{0, 1, 2, 3}},
		{"id", session.Match{ID: Entry(1).ID}, []int{1}},
		{"another id", session.Match{Except: Entry(1).ID}, []int{0, 2, 3}},
		{"session of the provider", session.Match{ProviderSession: "sid 1"}, []int{2, 3}},
		{"browser", session.Match{UserAgent: "Browser 3"}, []int{3}},
		{"browser of another", session.Match{UserAgent: "Browser 3", Subject: Entry(2).Identity.ID()}, nil},
		{"unknown id", session.Match{ID: "nobody"}, nil},
		{"subject", session.Match{Subject: Entry(3).Identity.ID()}, []int{3}},
		{"e-mail in another case", session.Match{Email: "PERSON1@example.test"}, []int{1}},
		{"provider", session.Match{Provider: "corp"}, []int{0, 1, 2, 3}},
		{"other provider", session.Match{Provider: "cor"}, nil},
		{"host", session.Match{Host: "wiki.example"}, []int{2}},
		{"created", session.Match{CreatedBefore: noon.Add(time.Hour)}, []int{0, 1}},
		{"created, a moment earlier", session.Match{CreatedBefore: noon.Add(time.Hour - 1)}, []int{0}},
		{"seen", session.Match{SeenBefore: noon.Add(2*time.Hour + time.Minute)}, []int{0, 1, 2}},
		{"all at once", session.Match{Provider: "corp", Host: "wiki.example", SeenBefore: noon}, nil},
	} {
		var want []string
		for _, i := range c.want {
			want = append(want, Entry(i).ID)
		}
		if got := ids(list(t, s, c.m)); !slices.Equal(got, want) {
			t.Fatalf("List by %s = %v, want %v", c.name, got, want)
		}
	}
}

// deleteMatchesLikeList ends what List names, for each way to select.
func deleteMatchesLikeList(t testing.TB, open func() session.Store) {
	s := open()
	for i, m := range []session.Match{
		{ID: Entry(0).ID}, {Subject: Entry(1).Identity.ID()}, {Email: "person2@example.test"}, {Provider: "corp", Except: Entry(3).ID},
		{ProviderSession: "sid"}, {Host: "wiki.example"}, {UserAgent: "Browser 6"}, {CreatedBefore: noon.Add(-time.Hour)},
		{SeenBefore: noon.Add(-time.Hour)},
	} {
		e := Entry(i)
		if m.ProviderSession != "" {
			e.ProviderSession = "sid"
		}
		if m.UserAgent != "" {
			e.UserAgent = "Browser 6"
		}
		if !m.CreatedBefore.IsZero() {
			e.Created = m.CreatedBefore
		}
		if !m.SeenBefore.IsZero() {
			e.Seen = m.SeenBefore
		}
		put(t, s, e, hash(2*i))
		if m.Host != "" {
			attach(t, s, i, m.Host, hash(2*i+1), 0)
		}
		want := ids(list(t, s, m))
		if got := ids(must(s.Delete(t.Context(), m, session.Revoked, 10))(t)); !slices.Equal(got, want) || len(got) == 0 {
			t.Fatalf("Delete by %+v = %v, List %v", m, got, want)
		}
		put(t, s, Entry(100+i), hash(200+i)) // which the next must leave alone, or end as List says
	}
}

func listPages(t testing.TB, open func() session.Store) {
	s := open()
	var want, got []string
	for i := range 7 {
		put(t, s, Entry(i), hash(i))
		want = append(want, Entry(i).ID)
	}
	for after, pages := "", 0; pages < 3; pages++ {
		page := must(s.List(t.Context(), session.Match{}, after, 3))(t)
		if len(page) == 0 || len(page) > 3 {
			t.Fatalf("page %d has %d sessions, want 1 to 3", pages, len(page))
		}
		got = append(got, ids(page)...)
		after = got[len(got)-1]
	}
	if !slices.Equal(got, want) {
		t.Fatalf("pages list %v, want %v", got, want)
	}
}

func touchOnlyMovesForward(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	for _, c := range []struct{ touch, want time.Duration }{{time.Minute, time.Minute}, {-time.Hour, time.Minute}, {time.Hour, time.Hour}} {
		seen := map[string]time.Time{Entry(1).ID: noon.Add(c.touch), "nobody": noon}
		if err := s.Touch(t.Context(), seen); err != nil {
			t.Fatalf("Touch: %v", err)
		}
		if got := present(t, s, hash(1)).Seen; !got.Equal(noon.Add(c.want)) {
			t.Fatalf("seen at %v, want %v", got, noon.Add(c.want))
		}
	}
	if got := ids(list(t, s, session.Match{})); len(got) != 1 {
		t.Fatalf("Touch made sessions: %v", got)
	}
}

func detachEndsOneHost(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	put(t, a, Entry(1), hash(1))
	put(t, a, Entry(2), hash(2))
	attach(t, a, 1, "wiki.example", hash(11), 0)
	attach(t, a, 1, "wiki.example", hash(12), time.Second)
	attach(t, a, 1, "payroll.example", hash(13), 0)
	attach(t, a, 2, "wiki.example", hash(21), 0)
	w := watch(t, b, "")
	if err := a.Detach(t.Context(), Entry(1).ID, "wiki.example", session.SignedOut); err != nil {
		t.Fatalf("Detach: %v", err)
	}
	for _, s := range []session.Store{a, b} {
		absent(t, s, hash(11))
		absent(t, s, hash(12))
		for _, n := range []int{1, 2, 13, 21} {
			present(t, s, hash(n))
		}
	}
	w.expect(session.Change{SessionID: Entry(1).ID, Host: "wiki.example", Reason: session.SignedOut})
	if err := a.Detach(t.Context(), Entry(1).ID, "wiki.example", session.SignedOut); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("second Detach: %v, want ErrNoSession", err)
	}
}

func deleteEndsAtMostLimit(t testing.TB, open func() session.Store) {
	s := open()
	for i := range 5 {
		put(t, s, Entry(i), hash(i))
	}
	first := must(s.Delete(t.Context(), session.Match{Provider: "corp"}, session.Revoked, 3))(t)
	rest := must(s.Delete(t.Context(), session.Match{Provider: "corp"}, session.Revoked, 3))(t)
	none := must(s.Delete(t.Context(), session.Match{Provider: "corp"}, session.Revoked, 3))(t)
	if len(first) != 3 || len(rest) != 2 || len(none) != 0 {
		t.Fatalf("Delete by three of five = %d, %d, %d", len(first), len(rest), len(none))
	}
	got := append(ids(first), ids(rest)...)
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != 5 {
		t.Fatalf("Delete returned %v, want each once", got)
	}
}

func deleteIsSeenElsewhereAtOnce(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	put(t, a, Entry(1), hash(1))
	put(t, a, Entry(2), hash(2))
	attach(t, a, 1, "wiki.example", hash(11), 0)
	present(t, b, hash(1))
	present(t, b, hash(11))
	gone := must(a.Delete(t.Context(), session.Match{ID: Entry(1).ID}, session.Revoked, 10))(t)
	if diff := cmp.Diff([]session.Entry{Entry(1)}, gone); diff != "" {
		t.Fatalf("Delete returned (-want +got):\n%s", diff)
	}
	for _, s := range []session.Store{a, b} {
		absent(t, s, hash(1))
		absent(t, s, hash(11))
		present(t, s, hash(2))
	}
}

func ofManySpendersOneWins(t testing.TB, open func() session.Store) {
	stores := []session.Store{open(), open()}
	for round := range 5 {
		id := fmt.Sprintf("code-%d-%s", round, strings.Repeat("x", 200*round))
		won := race(50, func(i int) bool {
			first, err := stores[i%2].Spend(t.Context(), id, noon)
			if err != nil {
				t.Errorf("Spend: %v", err)
			}
			return first
		})
		if len(won) != 1 {
			t.Fatalf("%d of 50 spent one id, want 1", len(won))
		}
	}
}

func sweepForgetsOnlyWhatIsOver(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	for i := range 10 {
		must(s.Spend(t.Context(), fmt.Sprint(i), noon.Add(time.Duration(i)*time.Minute)))(t)
	}
	for more, rounds := true, 0; more; rounds++ {
		if more = must(s.Sweep(t.Context(), noon.Add(5*time.Minute)))(t); rounds > 100 {
			t.Fatalf("Sweep never comes to an end")
		}
	}
	for i := 5; i < 10; i++ {
		if must(s.Spend(t.Context(), fmt.Sprint(i), noon))(t) {
			t.Fatalf("an id spent until %d minutes past was forgotten at 5", i)
		}
	}
	present(t, s, hash(1))
}

func watchBeginsWithThePresent(t testing.TB, open func() session.Store) {
	s := open()
	put(t, s, Entry(1), hash(1))
	must(s.Delete(t.Context(), session.Match{ID: Entry(1).ID}, session.Revoked, 1))(t)
	w := watch(t, s, "")
	if first := w.next(); !first.Lost || first.Position == "" || len(first.Changes) != 0 {
		t.Fatalf("first news = %+v, want Lost, a position and no old changes", first)
	}
	for range 2 {
		if n := w.next(); n.Lost || len(n.Changes) != 0 {
			t.Fatalf("news of nothing = %+v", n)
		}
	}
}

func newsOfEveryEndReachesEveryStore(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	mine, theirs := watch(t, a, ""), watch(t, b, "")
	var want []session.Change
	for i := range 3 {
		put(t, a, Entry(i), hash(i))
	}
	e := Entry(0)
	e.Version = 2
	if err := a.Renew(t.Context(), e); err != nil {
		t.Fatalf("Renew: %v", err)
	}
	want = append(want, session.Change{SessionID: e.ID})
	for i, reason := range []string{session.Revoked, session.SignedOut, session.Expired} {
		must(a.Delete(t.Context(), session.Match{ID: Entry(i).ID}, reason, 10))(t)
		want = append(want, session.Change{SessionID: Entry(i).ID, Reason: reason})
	}
	mine.expect(want...)
	theirs.expect(want...)
}

// newsIsCompleteAsOfItsTime is what a cache rests on: when news as of some moment has come, all that was committed
// before that moment has.
func newsIsCompleteAsOfItsTime(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	w := watch(t, b, "")
	for i := range 10 {
		put(t, a, Entry(i), hash(i))
		time.Sleep(rand.N(20 * time.Millisecond)) // anywhere between two looks of the watch
		must(a.Delete(t.Context(), session.Match{ID: Entry(i).ID}, session.Revoked, 1))(t)
		committed := time.Now()
		for told := false; ; {
			n := w.next()
			told = told || slices.Contains(n.Changes, session.Change{SessionID: Entry(i).ID, Reason: session.Revoked})
			if n.AsOf.After(committed) {
				if !told {
					t.Fatalf("news as of %v after a deletion does not tell of it", n.AsOf.Sub(committed))
				}
				break
			}
		}
	}
}

func watchResumesWithoutLoss(t testing.TB, open func() session.Store) {
	a, b := open(), open()
	w := watch(t, b, "")
	at := w.next().Position
	w.stop()
	var want []session.Change
	for i := range 3 {
		put(t, a, Entry(i), hash(i))
		must(a.Delete(t.Context(), session.Match{ID: Entry(i).ID}, session.Revoked, 1))(t)
		want = append(want, session.Change{SessionID: Entry(i).ID, Reason: session.Revoked})
	}
	watch(t, b, at).expectAll(want...)
	watch(t, a, at).expectAll(want...)
}

// Entry returns a session as a store keeps it; entries of different numbers are different, in the order of numbers.
func Entry(n int) session.Entry {
	return session.Entry{
		ID: fmt.Sprintf("SESSION%06d", n), Identity: identity(n, fmt.Sprintf("person%d@example.test", n), "staff", "wiki"),
		UserAgent: "Browser/1.0 (ünïcode)", Address: "2001:db8::1", Created: noon, Seen: noon, Checked: noon, Raised: noon, Version: 1,
	}
}

func identity(n int, email string, groups ...string) *authn.Identity {
	id, err := authn.New(authn.Identity{
		Kind: authn.User, Provider: "corp", Subject: fmt.Sprint("person ", n), Email: email, EmailVerified: true,
		Name: "Pérson", Groups: groups, Claims: map[string]any{"level": 9007199254740993, "tags": []string{"a", "b"}},
		ACR: "gold", AMR: []string{"pwd", "otp"}, AuthTime: noon, MFA: true,
	})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return id
}

func hash(n int) session.Hash { return session.Hash{byte(n >> 8), byte(n), 0xff} }

func put(t testing.TB, s session.Store, e session.Entry, h session.Hash) {
	t.Helper()
	if err := s.Put(t.Context(), e, h); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func attach(t testing.TB, s session.Store, n int, host string, h session.Hash, after time.Duration) {
	t.Helper()
	if err := s.Attach(t.Context(), Entry(n).ID, session.Handle{Hash: h, Host: host, Made: noon.Add(after)}); err != nil {
		t.Fatalf("Attach: %v", err)
	}
}

func present(t testing.TB, s session.Store, h session.Hash) session.Entry {
	t.Helper()
	e, _, err := s.Get(t.Context(), h)
	if err != nil {
		t.Fatalf("Get of handle %x: %v", h[:2], err)
	}
	return e
}

func absent(t testing.TB, s session.Store, h session.Hash) {
	t.Helper()
	if e, _, err := s.Get(t.Context(), h); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Get of ended handle %x = session %q, %v; want ErrNoSession", h[:2], e.ID, err)
	}
}

func list(t testing.TB, s session.Store, m session.Match) []session.Entry {
	t.Helper()
	return must(s.List(t.Context(), m, "", 1000))(t)
}

func ids(entries []session.Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return all
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%T: %v", v, err)
		}
		return v
	}
}

// race calls do n times at once and returns for which it was true.
func race(n int, do func(int) bool) []int {
	var mu sync.Mutex
	var won []int
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			if do(i) {
				mu.Lock()
				defer mu.Unlock()
				won = append(won, i)
			}
		})
	}
	close(begin)
	wg.Wait()
	return won
}

// watcher reads the news of a store in order.
type watcher struct {
	t    testing.TB
	news chan session.News
	stop func()
}

// watch begins to watch; from "" it returns when the watch has begun.
func watch(t testing.TB, s session.Store, after session.Position) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{t: t, news: make(chan session.News, 10000)}
	begun := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	wg.Go(func() {
		defer once.Do(func() { close(begun) })
		err := s.Watch(ctx, after, func(n session.News) {
			w.news <- n
			once.Do(func() { close(begun) })
		})
		if err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	w.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(w.stop)
	<-begun
	return w
}

func (w *watcher) next() session.News {
	w.t.Helper()
	select {
	case n := <-w.news:
		return n
	case <-time.After(newsWithin):
		w.t.Fatalf("no news for %v", newsWithin)
		panic("unreachable")
	}
}

// expect reads news until all that is wanted has come, in order and nothing else.
func (w *watcher) expect(want ...session.Change) {
	w.t.Helper()
	w.read(want, true)
}

// expectAll is expect for a watch that must not begin anew.
func (w *watcher) expectAll(want ...session.Change) {
	w.t.Helper()
	w.read(want, false)
}

func (w *watcher) read(want []session.Change, lostFirst bool) {
	w.t.Helper()
	var got []session.Change
	deadline := time.Now().Add(newsWithin)
	for len(got) < len(want) && time.Now().Before(deadline) {
		n := w.next()
		if n.Lost && !lostFirst {
			w.t.Fatalf("news was lost")
		}
		lostFirst = false
		got = append(got, n.Changes...)
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("news = %v, want %v", got, want)
	}
}
