package session_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
	"sallyport/authn/session/sqlite"
)

// TestKeeperAgreesWithModel does random things to a keeper and to the simplest thing that behaves like one, and expects
// the same answers. A restart of the keeper is one of the things.
func TestKeeperAgreesWithModel(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		agree(t, 100, func(testing.TB) func(*rapid.T) (session.Store, func()) {
			m := sessiontest.NewMemory()
			return func(*rapid.T) (session.Store, func()) { return m, func() {} }
		})
	})
	t.Run("sqlite", func(t *testing.T) {
		dir, n := t.TempDir(), 0
		agree(t, 20, func(testing.TB) func(*rapid.T) (session.Store, func()) {
			n++
			path := filepath.Join(dir, fmt.Sprintf("state-%d.db", n))
			return func(rt *rapid.T) (session.Store, func()) {
				s, err := sqlite.Open(context.Background(), path)
				if err != nil {
					rt.Fatal(err)
				}
				return s, func() {
					if err := s.Close(); err != nil {
						rt.Error(err)
					}
				}
			}
		})
	})
}

func agree(t *testing.T, few int, place func(testing.TB) func(*rapid.T) (session.Store, func())) {
	checks := few
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil {
		checks = max(n, 20)
	}
	if err := flag.Set("rapid.checks", strconv.Itoa(checks)); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{open: place(t), sessions: make(map[string]*modelSession), handles: make(map[string]modelHandle),
			late: make(map[string]bool), forms: make(map[string]*modelForm)}
		w.clock.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
		w.start(rt)
		defer func() { w.stop() }()
		rt.Repeat(rapid.StateMachineActions(w))
	})
}

var modelLimits = session.Config{Idle: 2 * time.Hour, Absolute: 5 * time.Hour}

type world struct {
	clock atomic.Int64
	open  func(*rapid.T) (session.Store, func())
	k     *session.Keeper
	stop  func()

	sessions map[string]*modelSession
	handles  map[string]modelHandle // also of what has ended
	codes    []modelCode
	late     map[string]bool       // sessions that were ended when they may have expired: they may have left a trace
	forms    map[string]*modelForm // by session
	made     []string              // ids and handles in the order in which they were made
}

// modelSession was last seen at a time between the two: what was not yet written down may be forgotten, up to a minute.
type modelSession struct {
	person               string
	created, least, most time.Time
	version              int64
	hosts                map[string]bool
}

type modelHandle struct{ session, host string }

type modelCode struct {
	code, session, host string
	expires             time.Time
	spent               bool
}

type modelForm struct {
	id    string
	until time.Time
	taken bool
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

func (w *world) start(t *rapid.T) {
	store, closeStore := w.open(t)
	k, err := session.NewKeeper(modelLimits, store, w.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	w.k = k
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		closeStore()
	}
}

// life returns whether a session must and whether it may be alive.
func (w *world) life(id string) (must, may bool) {
	s := w.sessions[id]
	if s == nil || w.now().Sub(s.created) >= modelLimits.Absolute {
		return false, false
	}
	return w.now().Sub(s.least) < modelLimits.Idle, w.now().Sub(s.most) < modelLimits.Idle
}

func (w *world) judge(t *rapid.T, what, id string, err error) (alive bool) {
	must, may := w.life(id)
	alive = err == nil
	if (err != nil && !errors.Is(err, session.ErrNoSession)) || (must && !alive) || (alive && !may) {
		t.Fatalf("%s of session %s: %v; model says it must live %v, may live %v", what, id, err, must, may)
	}
	return alive
}

// use is judge for what counts as being seen.
func (w *world) use(t *rapid.T, what, id string, err error) {
	if w.judge(t, what, id, err) {
		s := w.sessions[id]
		s.most = w.now()
		if least := s.most.Add(-time.Minute - time.Second); least.After(s.least) {
			s.least = least
		}
	}
}

// pick draws one of what is there in the order in which it was made, so that a failure can be reproduced although ids
// and handles are random.
func pick[V any](t *rapid.T, m map[string]V, made []string) string {
	made = slices.DeleteFunc(slices.Clone(made), func(key string) bool { _, there := m[key]; return !there })
	if len(made) == 0 {
		t.Skip("nothing there")
	}
	return made[rapid.IntRange(0, len(made)-1).Draw(t, "one")]
}

func host(t *rapid.T) string { return rapid.SampledFrom([]string{wiki, payroll}).Draw(t, "host") }

func (w *world) SignIn(t *rapid.T) {
	name := rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "person")
	handle, s, err := w.k.SignIn(t.Context(), session.NewSession{Identity: person(t, name), Secrets: session.Secrets{RefreshToken: "1"}, UserAgent: "ua"})
	if err != nil {
		t.Fatal(err)
	}
	w.sessions[s.ID] = &modelSession{
		person: name, created: w.now(), least: w.now(), most: w.now(), version: 1, hosts: make(map[string]bool),
	}
	w.handles[handle] = modelHandle{s.ID, ""}
	w.made = append(w.made, s.ID, handle)
}

func (w *world) HandOff(t *rapid.T) {
	id, to := pick(t, w.sessions, w.made), host(t)
	code, err := w.k.HandOff(t.Context(), id, to, session.BackHash("verifier"))
	if w.judge(t, "HandOff", id, err) {
		w.codes = append(w.codes, modelCode{code: code, session: id, host: to, expires: w.now().Add(session.HandOffTime)})
	}
}

func (w *world) Redeem(t *rapid.T) {
	if len(w.codes) == 0 {
		t.Skip("no codes")
	}
	c := &w.codes[rapid.IntRange(0, len(w.codes)-1).Draw(t, "code")]
	at := host(t)
	handle, _, err := w.k.Redeem(t.Context(), c.code, at, "verifier")
	must, may := w.life(c.session)
	switch {
	case at != c.host:
		if !errors.Is(err, session.ErrCodeInvalid) {
			t.Fatalf("Redeem on another host: %v", err)
		}
	case !w.now().Before(c.expires):
		if !errors.Is(err, session.ErrCodeExpired) {
			t.Fatalf("Redeem of an expired code: %v", err)
		}
	case c.spent:
		if !errors.Is(err, session.ErrCodeSpent) && (must || !errors.Is(err, session.ErrNoSession)) {
			t.Fatalf("Redeem of a spent code: %v", err)
		}
	case err == nil && may:
		c.spent = true
		w.handles[handle] = modelHandle{c.session, c.host}
		w.made = append(w.made, handle)
		w.sessions[c.session].hosts[c.host] = true
	case must || !errors.Is(err, session.ErrNoSession):
		t.Fatalf("Redeem: %v, session must live %v, may live %v", err, must, may)
	}
}

func (w *world) Lookup(t *rapid.T) {
	handle := pick(t, w.handles, w.made)
	h := w.handles[handle]
	at := host(t)
	s, err := w.k.Lookup(t.Context(), at, handle)
	if h.host != at || (w.sessions[h.session] != nil && !w.sessions[h.session].hosts[at]) {
		if !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("Lookup on %s of a handle for %s: %v", at, h.host, err)
		}
		return
	}
	w.use(t, "Lookup", h.session, err)
	if m := w.sessions[h.session]; err == nil && (s.ID != h.session || s.Version != m.version || s.Identity.Subject != m.person) {
		t.Fatalf("Lookup = %+v, want %+v", s, m)
	}
}

func (w *world) SignedIn(t *rapid.T) {
	handle := pick(t, w.handles, w.made)
	h := w.handles[handle]
	_, err := w.k.SignedIn(t.Context(), handle)
	if h.host != "" {
		if !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("SignedIn with a handle for %s: %v", h.host, err)
		}
		return
	}
	w.use(t, "SignedIn", h.session, err)
}

func (w *world) SignOut(t *rapid.T) {
	id := pick(t, w.sessions, w.made)
	if err := w.k.SignOut(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.forget(func(other string, _ *modelSession) bool { return other == id })
}

// forget removes sessions that were ended.
func (w *world) forget(ended func(string, *modelSession) bool) {
	for id := range w.sessions {
		if must, _ := w.life(id); !must && ended(id, w.sessions[id]) {
			w.late[id] = true
		}
	}
	maps.DeleteFunc(w.sessions, ended)
}

func (w *world) SignOutHost(t *rapid.T) {
	handle := pick(t, w.handles, w.made)
	h := w.handles[handle]
	if h.host == "" || w.sessions[h.session] == nil || !w.sessions[h.session].hosts[h.host] {
		if _, err := w.k.SignOutHost(t.Context(), wiki, handle); !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("SignOutHost with an ended handle or a parent's: %v", err)
		}
		return
	}
	_, err := w.k.SignOutHost(t.Context(), h.host, handle)
	w.use(t, "SignOutHost", h.session, err)
	if err == nil {
		delete(w.sessions[h.session].hosts, h.host)
		maps.DeleteFunc(w.handles, func(_ string, other modelHandle) bool { return other == h })
	}
}

func (w *world) Revoke(t *rapid.T) {
	name := rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "person")
	older := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "older")
	if _, err := w.k.Revoke(t.Context(), session.Filter{Subject: "corp|" + name, OlderThan: older}); err != nil {
		t.Fatal(err)
	}
	w.forget(func(_ string, s *modelSession) bool { return s.person == name && w.now().Sub(s.created) >= older })
}

func (w *world) End(t *rapid.T) {
	name := rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "person")
	except := pick(t, w.sessions, w.made)
	gone, err := w.k.End(t.Context(), session.Filter{Subject: "corp|" + name, Except: except}, session.SignedOut)
	if err != nil {
		t.Fatal(err)
	}
	for id := range idsOf(gone) {
		if id == except || w.sessions[id] == nil || w.sessions[id].person != name {
			t.Fatalf("End of all of %s but %s ended %s", name, except, id)
		}
	}
	w.forget(func(id string, s *modelSession) bool { return s.person == name && id != except })
}

func (w *world) Raise(t *rapid.T) {
	handle := pick(t, w.handles, w.made)
	h := w.handles[handle]
	name := "nobody"
	if s := w.sessions[h.session]; s != nil {
		name = s.person
	}
	raise := func() (string, error) {
		r := session.Renewal{Identity: person(t, name), Secrets: session.Secrets{RefreshToken: "1"}}
		if s := w.sessions[h.session]; s != nil {
			r.Secrets.RefreshToken = fmt.Sprint(s.version + 1)
		}
		raised, _, err := w.k.Raise(t.Context(), h.session, handle, r)
		return raised, err
	}
	raised, err := raise()
	if h.host != "" {
		if !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("Raise with a handle for %s: %v", h.host, err)
		}
		return
	}
	if !w.judge(t, "Raise", h.session, err) {
		return
	}
	s := w.sessions[h.session]
	s.version++
	s.least, s.most = w.now(), w.now()
	w.handles[raised], w.handles[handle] = h, modelHandle{}
	w.made = append(w.made, raised)
	if _, err := raise(); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Raise with a handle that was raised before: %v", err)
	}
}

func (w *world) Past(t *rapid.T) {
	handle := pick(t, w.handles, w.made)
	h := w.handles[handle]
	p, err := w.k.Past(t.Context(), h.host, handle)
	if err != nil && !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Past: %v", err)
	}
	s := w.sessions[h.session]
	if s == nil {
		if err == nil && !w.late[h.session] {
			t.Fatalf("Past of a session that was ended: %+v", p)
		}
		return
	}
	first, last := s.created.Add(modelLimits.Absolute), s.created.Add(modelLimits.Absolute)
	if idle := s.least.Add(modelLimits.Idle); idle.Before(first) {
		first = idle
	}
	if idle := s.most.Add(modelLimits.Idle); idle.Before(last) {
		last = idle
	}
	may := !w.now().Before(first) && w.now().Sub(last) < session.PastTime
	must := !w.now().Before(last) && w.now().Sub(first) < session.PastTime && (h.host == "" || s.hosts[h.host])
	if (err == nil && !may) || (err != nil && must) {
		t.Fatalf("Past = %+v, %v; model says it must be known %v, may be known %v", p, err, must, may)
	}
	if err == nil && (p.SessionID != h.session || p.Subject != "corp|"+s.person || p.Ended.Before(first) || p.Ended.After(last)) {
		t.Fatalf("Past = %+v of session %s, which ended from %v to %v", p, h.session, first, last)
	}
}

func (w *world) KeepForm(t *rapid.T) {
	of := pick(t, w.sessions, w.made)
	id, err := w.k.KeepForm(t.Context(), of, []byte("form of "+of))
	if f := w.forms[of]; f != nil && w.now().Before(f.until) {
		if !errors.Is(err, session.ErrConflict) {
			t.Fatalf("KeepForm for the second time: %v", err)
		}
		return
	}
	if err != nil {
		if w.forms[of] == nil || !errors.Is(err, session.ErrConflict) {
			t.Fatalf("KeepForm: %v", err)
		}
		return // the old one is not swept yet
	}
	w.forms[of] = &modelForm{id: id, until: w.now().Add(session.FormTime)}
}

func (w *world) TakeForm(t *rapid.T) {
	of := pick(t, w.forms, w.made)
	f := w.forms[of]
	read := rapid.SampledFrom([]bool{false, true}).Draw(t, "take")
	get := w.k.Form
	if read {
		get = w.k.TakeForm
	}
	got, err := get(t.Context(), f.id)
	there := !f.taken && w.now().Before(f.until)
	if (err == nil) != there || (err == nil && string(got) != "form of "+of) || (err != nil && !errors.Is(err, session.ErrNoForm)) {
		t.Fatalf("a form = %q, %v; model says it is there %v", got, err, there)
	}
	f.taken = f.taken || read
}

func (w *world) Renew(t *rapid.T) {
	id := pick(t, w.sessions, w.made)
	secrets, version, err := w.k.Secrets(t.Context(), id)
	if !w.judge(t, "Secrets", id, err) {
		return
	}
	s := w.sessions[id]
	if version != s.version || secrets.RefreshToken != fmt.Sprint(s.version) {
		t.Fatalf("Secrets = %q of version %d, want version %d", secrets.RefreshToken, version, s.version)
	}
	if _, err := w.k.Renew(t.Context(), id, version-1, session.Renewal{Identity: person(t, s.person), Secrets: session.Secrets{RefreshToken: "old"}}); !errors.Is(err, session.ErrConflict) {
		t.Fatalf("Renew of an old version: %v", err)
	}
	if _, err := w.k.Renew(t.Context(), id, version, session.Renewal{Identity: person(t, s.person), Secrets: session.Secrets{RefreshToken: fmt.Sprint(version + 1)}}); err != nil {
		t.Fatal(err)
	}
	s.version++
}

func (w *world) Wait(t *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Second, 20 * time.Second, time.Minute, 50 * time.Minute, 2 * time.Hour}).Draw(t, "time")
	w.clock.Add(int64(d))
}

func (w *world) Restart(t *rapid.T) {
	w.stop()
	w.start(t)
}

// Check runs after each step: the list holds all that must be there and nothing that must not.
func (w *world) Check(t *rapid.T) {
	all, err := w.k.List(t.Context(), session.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	listed := idsOf(all)
	for id := range w.sessions {
		if must, _ := w.life(id); must && !listed[id] {
			t.Fatalf("session %s is not listed", id)
		}
	}
	for id := range listed {
		if _, may := w.life(id); !may {
			t.Fatalf("ended session %s is listed", id)
		}
	}
}
