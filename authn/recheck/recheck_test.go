package recheck

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

func TestAFreshSessionCostsNothing(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		_, s := b.signIn("alice")
		for range 11 {
			if got, err := b.recheck.Current(t.Context(), s); got != s || err != nil {
				t.Fatalf("got %v and %v, want the session itself", got, err)
			}
			time.Sleep(time.Minute)
		}
		if allocations := testing.AllocsPerRun(100, func() { b.recheck.Current(t.Context(), s) }); allocations > 0 {
			t.Errorf("%v allocations", allocations)
		}
		if asked, _, _ := b.idp.counts(); asked > 0 {
			t.Errorf("the provider was asked %d times", asked)
		}
	})
}

func TestASessionInUseIsRecheckedInTheBackground(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.set(func() { b.idp.slow = 5 * time.Second })
		for range 45 { // a request each minute
			time.Sleep(time.Minute)
			before := time.Now()
			got := b.mustAsk(handle)
			if waited := time.Since(before); waited > 0 {
				t.Fatalf("the request waited %v", waited)
			}
			if age := time.Since(got.Checked); age >= limits.Recheck {
				t.Fatalf("let in %v after the provider spoke, want less than %v", age, limits.Recheck)
			}
		}
		if asked, _, reused := b.idp.counts(); asked != 3 || len(reused) > 0 {
			t.Errorf("the provider was asked %d times in 45 minutes, want 3; reused: %v", asked, reused)
		}
		if now := b.mustAsk(handle); now.ID != s.ID || now.Created != s.Created {
			t.Error("another session")
		}
		if got := b.recheck.Results(); got.Unchanged != 3 || len(b.changes) > 0 {
			t.Errorf("got %+v and records %v, want three rechecks without a change", got, b.changes)
		}
	})
}

// OIDC-22: refreshes come together; the name of a claim says where the session's id ends.
func TestAStormOnOneExpiringSessionIsOneRefresh(t *testing.T) {
	storm := func(t *testing.T, b *bed) (asked int) {
		handle, _ := b.signIn("alice")
		b.idp.set(func() { b.idp.slow = time.Second })
		time.Sleep(limits.Recheck + time.Minute)
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if s, err := b.ask(handle); err != nil || time.Since(s.Checked) > time.Minute {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		asked, _, reused := b.idp.counts()
		if failed.Load() > 0 || len(reused) > 0 {
			t.Logf("%d requests failed, %d tokens were reused", failed.Load(), len(reused))
			return -1
		}
		return asked
	}
	inBubble(t, limits, func(t *testing.T, b *bed) {
		if asked := storm(t, b); asked != 1 {
			t.Errorf("the provider was asked %d times, want once", asked)
		}
	})
	// Without the single flight the claim alone would have to do; without either the provider sees a theft.
	inBubble(t, limits, func(t *testing.T, b *bed) {
		b.recheck.rules.manyFlights, b.recheck.rules.noClaim = true, true
		if asked := storm(t, b); asked == 1 {
			t.Error("the mutant was not caught")
		}
	})
	if claimName("ab", "c") == claimName("a", "bc") {
		t.Error("two tokens of two sessions have one name")
	}
}

func TestRequestsDoNotWaitForEachOthersSessions(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		var handles []string
		for i := range 3 * atOnce {
			handle, _ := b.signIn(fmt.Sprint("person", i))
			handles = append(handles, handle)
		}
		b.idp.set(func() { b.idp.slow = time.Second })
		time.Sleep(limits.Recheck)
		began := time.Now()
		var wg sync.WaitGroup
		for _, h := range handles {
			wg.Go(func() { b.mustAsk(h) })
		}
		wg.Wait()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%d sessions were rechecked in %v", len(handles), took)
		}
		if _, most, _ := b.idp.counts(); most > atOnce {
			t.Errorf("%d refreshes at once, want at most %d", most, atOnce)
		}
	})
}

func TestADisabledAccountLosesItsSessionWithinTheInterval(t *testing.T) {
	letIn := func(t *testing.T, b *bed) (longest time.Duration) {
		handle, s := b.signIn("alice")
		b.idp.disable("alice", time.Now())
		disabled := time.Now()
		for range 60 {
			time.Sleep(time.Minute)
			if _, err := b.ask(handle); err == nil {
				longest = time.Since(disabled)
			}
		}
		if len(b.records) == 0 {
			return longest
		}
		if want := (ended{s.ID, AccountDisabled}); b.records[0] != want {
			t.Errorf("got record %v, want %v", b.records[0], want)
		}
		p, err := b.keeper.Person(t.Context(), "corp|alice")
		if err != nil || !p.Disabled {
			t.Errorf("got person %+v and error %v, want a disabled one", p, err)
		}
		return longest
	}
	inBubble(t, limits, func(t *testing.T, b *bed) {
		var told []session.Ended
		b.keeper.OnEnd(func(e session.Ended) { b.do(func() { told = append(told, e) }) })
		if longest := letIn(t, b); longest >= limits.Recheck {
			t.Errorf("let in %v after the account was disabled, want less than %v", longest, limits.Recheck)
		}
		b.do(func() {
			if len(told) != 1 || told[0].Host != "" || told[0].Reason != session.AccountDisabled {
				t.Errorf("streams were told %v, want one end everywhere", told)
			}
		})
	})
	lazy := limits
	lazy.Recheck = 40 * time.Second // each request finds it overdue
	inBubble(t, lazy, func(t *testing.T, b *bed) {
		if longest := letIn(t, b); longest > 0 {
			t.Errorf("let in %v after the account was disabled, want never", longest)
		}
	})
	inBubble(t, lazy, func(t *testing.T, b *bed) {
		b.recheck.rules.noBound = true
		if longest := letIn(t, b); longest == 0 {
			t.Error("the mutant was not caught")
		}
	})
}

func TestTheEndIsOnRecordBeforeItHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var alive int
		b := newBed(t, newIDP(), sessiontest.NewMemory(), limits, func(b *bed) {
			b.recorded = func(_ string, s *session.Session) {
				if _, err := b.keeper.Current(context.Background(), s.ID); err == nil {
					alive++
				}
			}
		})
		handle, _ := b.signIn("alice")
		b.idp.disable("alice", time.Now())
		b.do(func() { b.audit = errors.New("disk full") })
		time.Sleep(limits.Recheck)
		for range 10 { // it is neither let in nor ended while nobody can record that
			b.wantError(handle, ErrUnavailable)
			if s, err := b.keeper.SignedIn(t.Context(), handle); err != nil {
				t.Fatalf("ended without a record: %v", err)
			} else if _, err := b.recheck.Look(s); !errors.Is(err, ErrUnavailable) {
				t.Errorf("an open stream got %v, want %v", err, ErrUnavailable)
			}
			time.Sleep(time.Minute)
		}
		b.do(func() { b.audit = nil })
		time.Sleep(2 * time.Minute)
		b.wantError(handle, session.ErrNoSession)
		if asked, _, _ := b.idp.counts(); asked != 1 || alive == 0 || len(b.records) != 1 {
			t.Errorf("asked %d times, %d records before the end, records %v; want the provider asked once and one record", asked, alive, b.records)
		}
	})
}

// OIDC-23.
func TestGroupsFollowTheProviderWithinTheInterval(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.set(func() { b.idp.groups = []string{"staff", "wiki"} })
		var since time.Duration
		for start := time.Now(); ; since = time.Since(start) {
			if since >= limits.Recheck {
				t.Fatalf("groups are old after %v", since)
			}
			time.Sleep(time.Minute)
			b.mustAsk(handle)
			synctest.Wait()
			if now := b.mustAsk(handle); slices.Equal(now.Identity.Groups, []string{"staff", "wiki"}) {
				break
			}
		}
		want := Change{Added: []string{"wiki"}, AddedCount: 1}
		if len(b.changes) != 1 || fmt.Sprint(b.changes[0]) != fmt.Sprint(want) {
			t.Errorf("got records %v, want %v", b.changes, want)
		}
		if !slices.Contains(b.settled, s.ID) {
			t.Error("open streams were not told to look again")
		}
		b.idp.set(func() { b.idp.groups = nil })
		time.Sleep(limits.Recheck)
		if now := b.mustAsk(handle); len(now.Identity.Groups) > 0 {
			t.Errorf("an overdue request was judged by groups %v", now.Identity.Groups)
		}
		if _, _, reused := b.idp.counts(); len(reused) > 0 {
			t.Error("a refresh token was used twice")
		}
	})
}

// OIDC-22: what the provider said counts for nobody before the token that came with it is safe.
func TestTheNewTokenIsStoredBeforeItsAnswerIsUsed(t *testing.T) {
	lost := func(t *testing.T, late bool) (stored bool) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, newIDP(), sessiontest.NewMemory(), limits, func(b *bed) {
				b.recorded = func(code string, s *session.Session) {
					secrets, _, err := b.keeper.Secrets(context.Background(), s.ID)
					b.idp.mu.Lock()
					defer b.idp.mu.Unlock()
					stored = err == nil && b.idp.families[secrets.RefreshToken].current == secrets.RefreshToken
				}
			})
			b.recheck.rules.lateStore = late
			handle, _ := b.signIn("alice")
			b.idp.set(func() { b.idp.groups = []string{"other"} })
			time.Sleep(limits.Recheck)
			b.mustAsk(handle)
		})
		return stored
	}
	if !lost(t, false) {
		t.Error("the record was written, and the provider's new token was not stored")
	}
	if lost(t, true) {
		t.Error("the mutant was not caught")
	}
}

func TestATokenIsKeptThoughWhatCameWithItIsRefused(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, _ := b.signIn("alice")
		b.idp.set(func() {
			b.idp.fail = func() (*oidc.Failure, when) {
				return &oidc.Failure{Code: oidc.TokenKey, Err: errors.New("keys")}, beside
			}
		})
		for range 40 {
			time.Sleep(time.Minute)
			b.mustAsk(handle) // believed, within the grace
		}
		b.idp.set(func() { b.idp.fail = nil })
		time.Sleep(2 * time.Minute)
		if s := b.mustAsk(handle); time.Since(s.Checked) >= limits.Recheck {
			t.Errorf("checked %v ago", time.Since(s.Checked))
		}
		if asked, _, reused := b.idp.counts(); len(reused) > 0 || asked < 10 {
			t.Errorf("asked %d times, reused %v", asked, reused)
		}
	})
}

func TestTheClientThatSetOffARecheckDoesNotCancelIt(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, _ := b.signIn("alice")
		b.idp.set(func() { b.idp.slow = 3 * time.Second })
		time.Sleep(limits.Recheck)
		s, err := b.keeper.SignedIn(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.recheck.Current(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the client's own deadline", err)
		}
		time.Sleep(5 * time.Second)
		if got := b.recheck.Results(); got.Unchanged != 1 {
			t.Errorf("got %+v, want one finished recheck", got)
		}
		b.mustAsk(handle)
		if asked, _, _ := b.idp.counts(); asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	})
}

func TestAnOutageIsBoundedByTheGrace(t *testing.T) {
	cfg := limits
	cfg.Grace = 20 * time.Minute
	inBubble(t, cfg, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.set(func() { b.idp.fail = func() (*oidc.Failure, when) { return away(true), never } })
		var longest, waited time.Duration
		for range 60 {
			time.Sleep(time.Minute)
			before := time.Now()
			if _, err := b.ask(handle); err == nil {
				longest = time.Since(s.Created)
			} else if !errors.Is(err, ErrUnavailable) {
				t.Fatalf("got %v, want %v", err, ErrUnavailable)
			}
			waited = max(waited, time.Since(before))
		}
		if bound := cfg.Recheck + cfg.Grace; longest >= bound || longest < bound-2*time.Minute {
			t.Errorf("let in until %v after the sign-in, want just less than %v", longest, bound)
		}
		if waited > 0 {
			t.Errorf("a request waited %v for a provider that is known to be away", waited)
		}
		if asked, _, _ := b.idp.counts(); asked > 70 {
			t.Errorf("asked %d times in an hour's outage", asked)
		}
		if len(b.recheck.Away()) != 1 {
			t.Error("nobody is told that the provider is away")
		}
		b.idp.set(func() { b.idp.fail = nil })
		time.Sleep(2 * time.Minute)
		b.mustAsk(handle)
		if _, _, reused := b.idp.counts(); len(reused) > 0 || len(b.recheck.Away()) > 0 {
			t.Errorf("reused %v, away %v", reused, b.recheck.Away())
		}
	})
}

func TestAnOutageIsProbedByOneSession(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		var handles []string
		for i := range 200 {
			handle, _ := b.signIn(fmt.Sprint("person", i))
			handles = append(handles, handle)
		}
		b.idp.set(func() { b.idp.fail = func() (*oidc.Failure, when) { return away(true), never } })
		time.Sleep(limits.Recheck)
		for range 20 {
			for _, h := range handles {
				b.mustAsk(h)
			}
			time.Sleep(time.Minute)
		}
		if asked, _, _ := b.idp.counts(); asked > atOnce+30 {
			t.Errorf("%d sessions asked a provider that is away %d times in 20 minutes", len(handles), asked)
		}
	})
}

func TestATokenOfUnknownFateIsNeverSentAgain(t *testing.T) {
	send := func(t *testing.T, b *bed) (*session.Session, string, []string) {
		handle, s := b.signIn("alice")
		failed := false
		b.idp.set(func() {
			b.idp.fail = func() (*oidc.Failure, when) {
				b.idp.mu.Lock()
				defer b.idp.mu.Unlock()
				if failed {
					return nil, never
				}
				failed = true
				return away(false), after
			}
		})
		time.Sleep(limits.Recheck - time.Minute)
		b.mustAsk(handle)
		time.Sleep(5 * time.Minute)
		b.ask(handle)
		time.Sleep(time.Minute)
		b.ask(handle)
		_, _, reused := b.idp.counts()
		return s, handle, reused
	}
	inBubble(t, limits, func(t *testing.T, b *bed) {
		s, handle, reused := send(t, b)
		if len(reused) > 0 {
			t.Error("the provider saw a token twice")
		}
		b.idp.set(func() { b.idp.down = errors.New("away") })
		b.mustAsk(handle) // there is no way past the provider
		b.idp.set(func() { b.idp.down = nil })
		b.wantError(handle, ErrBrowser)
		if len(b.records) > 0 {
			t.Errorf("got records %v, want none: nothing has ended", b.records)
		}
		// The browser passed by: the session has another token, and goes on.
		if _, _, err := b.keeper.Raise(t.Context(), s.ID, handle, session.Renewal{Identity: s.Identity, Secrets: session.Secrets{RefreshToken: b.idp.grant("alice")}}); err != nil {
			t.Fatal(err)
		}
	})
	inBubble(t, limits, func(t *testing.T, b *bed) {
		b.recheck.rules.sendAgain = true
		if _, _, reused := send(t, b); len(reused) == 0 {
			t.Error("the mutant was not caught")
		}
	})
}

func TestWithoutARefreshTokenTheBrowserPassesByTheProvider(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signInWith(session.NewSession{Identity: person("alice", "staff")})
		time.Sleep(limits.RecheckInBrowser - time.Second)
		b.mustAsk(handle)
		time.Sleep(time.Second)
		b.wantError(handle, ErrBrowser)
		if _, err := b.recheck.Look(s); !errors.Is(err, ErrBrowser) {
			t.Errorf("an open stream got %v, want %v", err, ErrBrowser)
		}
		b.idp.set(func() { b.idp.down = errors.New("away") })
		b.mustAsk(handle)
		time.Sleep(limits.Grace)
		b.wantError(handle, ErrBrowser)
		b.idp.set(func() { b.idp.down = nil })
		handle, raised, err := b.keeper.Raise(t.Context(), s.ID, handle, session.Renewal{Identity: s.Identity})
		if err != nil || raised.ID != s.ID {
			t.Fatalf("got %v and %v", raised, err)
		}
		b.mustAsk(handle)
	})
	never := limits
	never.RecheckInBrowser = 0
	inBubble(t, never, func(t *testing.T, b *bed) {
		handle, _ := b.signInWith(session.NewSession{Identity: person("alice", "staff")})
		for range 5 {
			time.Sleep(4 * time.Hour)
			b.mustAsk(handle)
		}
	})
}

func TestAProviderThatWantsToSeeThePersonIsVisited(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, _ := b.signIn("alice")
		b.idp.set(func() {
			b.idp.fail = func() (*oidc.Failure, when) {
				return &oidc.Failure{Code: oidc.LoginRequired, Reported: "interaction_required", Unsent: true}, never
			}
		})
		time.Sleep(limits.Recheck)
		b.wantError(handle, ErrBrowser)
		time.Sleep(time.Minute)
		b.wantError(handle, ErrBrowser)
		if asked, _, _ := b.idp.counts(); asked != 1 || len(b.records) > 0 {
			t.Errorf("asked %d times, records %v; want once and none", asked, b.records)
		}
	})
}

func TestARefreshForSomebodyElseEndsTheSession(t *testing.T) {
	for name, answer := range map[string]func(*idp){
		"as an answer": func(p *idp) { p.subject = "mallory" },
		"as a failure": func(p *idp) {
			p.fail = func() (*oidc.Failure, when) { return &oidc.Failure{Code: oidc.SubjectMismatch}, beside }
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, limits, func(t *testing.T, b *bed) {
				handle, s := b.signIn("alice")
				b.idp.set(func() { answer(b.idp) })
				time.Sleep(limits.Recheck)
				b.wantError(handle, session.ErrNoSession)
				if want := []ended{{s.ID, SubjectMismatch}}; !slices.Equal(b.records, want) {
					t.Errorf("got records %v, want %v", b.records, want)
				}
				if p, err := b.keeper.Person(t.Context(), "corp|alice"); err != nil || p.Disabled {
					t.Errorf("got %+v and %v: alice is not to blame", p, err)
				}
			})
		})
	}
}

// A link that was wrong ends with the configuration that had it, not with the sessions that came by it: nobody waits for the
// provider to be asked, which it may never be.
func TestAnAccountThatWasLinkedSinceSignsInAgain(t *testing.T) {
	for name, was := range map[string]string{"joined": "", "parted": "other|alicia", "moved": "other|bob"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, session.Config{Idle: time.Hour, Absolute: 24 * time.Hour}, func(t *testing.T, b *bed) {
				b.idp.set(func() { b.idp.person, b.idp.down = was, errors.New("away") })
				who := person("alice", "staff")
				who.Person = was
				handle, s := b.signInWith(session.NewSession{Identity: who})
				b.mustAsk(handle)
				b.idp.set(func() { b.idp.person = "other|alicia" })
				if was == "other|alicia" {
					b.idp.set(func() { b.idp.person = "" })
				}
				b.wantError(handle, session.ErrNoSession)
				if want := []ended{{s.ID, AccountLinked}}; !slices.Equal(b.records, want) {
					t.Errorf("got records %v, want %v", b.records, want)
				}
				if asked, _, _ := b.idp.counts(); asked != 0 {
					t.Errorf("the provider was asked %d times", asked)
				}
			})
		})
	}
}

// A link to oneself changes nobody.
func TestAnAccountThatIsThePersonStays(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, _ := b.signIn("alice")
		b.idp.set(func() { b.idp.person = "corp|alice" })
		b.mustAsk(handle)
	})
}

// OIDC-23: a provider whose refreshes say nothing about the person does not keep old groups alive.
func TestAProviderThatSaysNothingIsAskedThroughTheBrowser(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.set(func() { b.idp.unsaid = true })
		for time.Since(s.Created) < limits.RecheckInBrowser-time.Minute {
			time.Sleep(time.Minute)
			b.mustAsk(handle)
		}
		time.Sleep(time.Minute)
		b.wantError(handle, ErrBrowser)
		if asked, _, _ := b.idp.counts(); asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	})
}

func TestSessionsOfARemovedProviderEnd(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.mustAsk(handle)
		b.do(func() { b.names = map[string]Provider{"other": b.idp} })
		b.wantError(handle, session.ErrNoSession)
		if want := []ended{{s.ID, ProviderRemoved}}; !slices.Equal(b.records, want) {
			t.Errorf("got records %v, want %v", b.records, want)
		}
	})
}

func TestARefreshTokenGoesToItsIssuerOnly(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		payload := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://corp.example"}`))
		secrets := func() session.Secrets {
			return session.Secrets{RefreshToken: b.idp.grant("alice"), IDToken: "e30." + payload + ".c2ln"}
		}
		handle, _ := b.signInWith(session.NewSession{Identity: person("alice", "staff"), Secrets: secrets()})
		time.Sleep(limits.Recheck)
		b.mustAsk(handle)
		b.idp.set(func() { b.idp.issuer = "https://evil.example" })
		time.Sleep(limits.Recheck)
		b.wantError(handle, session.ErrNoSession)
		if asked, _, _ := b.idp.counts(); asked != 1 {
			t.Errorf("the token was sent %d times, want only the first", asked)
		}
	})
}

func TestASignInOvertakesARefresh(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.set(func() { b.idp.slow, b.idp.groups = 5*time.Second, []string{"other"} })
		time.Sleep(limits.Recheck - time.Minute)
		b.mustAsk(handle)
		time.Sleep(time.Second)
		newer := b.idp.grant("alice")
		handle, _, err := b.keeper.Raise(t.Context(), s.ID, handle, session.Renewal{Identity: person("alice", "raised"), Secrets: session.Secrets{RefreshToken: newer}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if now := b.mustAsk(handle); !slices.Equal(now.Identity.Groups, []string{"raised"}) {
			t.Errorf("got groups %v: the older answer won", now.Identity.Groups)
		}
		if secrets, _, err := b.keeper.Secrets(t.Context(), s.ID); err != nil || secrets.RefreshToken != newer {
			t.Errorf("the older token won (%v)", err)
		}
	})
}

func TestAStoreThatFailsForAWhileLosesNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := &flakyStore{Sessions: nil}
		b := newBed(t, newIDP(), sessiontest.NewMemory(), limits, func(b *bed) {
			b.wrap = func(s Sessions) Sessions { flaky.Sessions = s; return flaky }
		})
		handle, _ := b.signIn("alice")
		for round, failures := range []int{3, 1000, 0} {
			flaky.failures.Store(int64(failures))
			flaky.halfway.Store(round == 0)
			time.Sleep(limits.Recheck)
			b.ask(handle)
			time.Sleep(time.Minute)
			flaky.failures.Store(0)
			_, err := b.ask(handle)
			if lost := round > 0; lost != errors.Is(err, ErrBrowser) {
				t.Fatalf("round %d: got %v", round, err)
			}
		}
		if _, _, reused := b.idp.counts(); len(reused) > 0 {
			t.Error("a token was sent twice")
		}
	})
}

// flakyStore fails to renew, before or after it took effect.
type flakyStore struct {
	Sessions
	failures atomic.Int64
	halfway  atomic.Bool
}

func (f *flakyStore) Renew(ctx context.Context, id string, version int64, r session.Renewal) (*session.Session, error) {
	if f.failures.Add(-1) < 0 {
		return f.Sessions.Renew(ctx, id, version, r)
	}
	if f.halfway.Load() {
		f.Sessions.Renew(ctx, id, version, r)
	}
	return nil, fmt.Errorf("%w: a disk", session.ErrUnavailable)
}

func TestOpenStreamsDoNotWait(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.set(func() { b.idp.slow = 8 * time.Second })
		b.idp.disable("alice", time.Now())
		time.Sleep(2 * limits.Recheck)
		before := time.Now()
		if got, err := b.recheck.Look(s); got != s || err != nil || time.Since(before) > 0 {
			t.Fatalf("got %v and %v after %v, want the session at once", got, err, time.Since(before))
		}
		time.Sleep(10 * time.Second)
		b.wantError(handle, session.ErrNoSession)
	})
	short := limits
	short.Grace = 0
	inBubble(t, short, func(t *testing.T, b *bed) {
		_, s := b.signIn("alice")
		b.idp.set(func() { b.idp.fail = func() (*oidc.Failure, when) { return away(true), never } })
		time.Sleep(short.Recheck)
		if _, err := b.recheck.Look(s); err != nil {
			t.Fatalf("got %v, want the session until the provider was asked", err)
		}
		synctest.Wait()
		b.do(func() {
			if !slices.Contains(b.settled, s.ID) {
				t.Error("the stream was not told to look again")
			}
		})
		for range 5 { // whatever is tried again meanwhile
			if _, err := b.recheck.Look(s); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("got %v, want %v", err, ErrUnavailable)
			}
			time.Sleep(30 * time.Second)
		}
	})
}

func TestSessionsFromBeforeAreCheckedSinceTheirSignIn(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		_, s := b.signIn("alice")
		old := *s
		old.Checked = time.Time{}
		if got, err := b.recheck.Current(t.Context(), &old); got != &old || err != nil {
			t.Errorf("got %v and %v", got, err)
		}
		ahead := *s
		ahead.Checked = time.Now().Add(24 * time.Hour) // a clock that was set back must not put everything off
		v := b.recheck.view(&ahead)
		if v.standing() != overdue {
			t.Errorf("a session checked in the future stands at %v, want overdue", v.standing())
		}
	})
}

func TestStoppingWaitsForRechecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, p := sessiontest.NewMemory(), newIDP()
		b := newBed(t, p, store, limits, nil)
		handle, _ := b.signIn("alice")
		p.set(func() { p.slow = 3 * time.Second })
		time.Sleep(limits.Recheck - time.Minute)
		b.mustAsk(handle)
		time.Sleep(time.Second)
		b.recheck.stop()
		if got := b.recheck.Results(); got.Unchanged != 1 {
			t.Errorf("got %+v, want the recheck finished", got)
		}
		time.Sleep(limits.Recheck)
		b.mustAsk(handle) // nothing begins any more: believed within the grace
		if asked, _, _ := p.counts(); asked != 1 {
			t.Errorf("asked %d times, want once", asked)
		}
	})
}

// illegible is a provider that hands out tokens and says what cannot be read about one person.
func illegible(b *bed, code oidc.Code) {
	b.idp.set(func() {
		b.idp.fail = func() (*oidc.Failure, when) { return &oidc.Failure{Code: code, Err: errors.New("nonsense")}, beside }
	})
}

// A provider that answers nonsense about somebody is not asked again by each of their requests, though each answer brings a
// new refresh token, which makes a new version of the session.
func TestNonsenseIsNotAskedForByEveryRequest(t *testing.T) {
	for _, code := range []oidc.Code{oidc.TokenInvalid, oidc.ProviderInvalidAnswer} {
		inBubble(t, limits, func(t *testing.T, b *bed) {
			handle, _ := b.signIn("alice")
			illegible(b, code)
			time.Sleep(limits.Recheck)
			for range 50 {
				b.mustAsk(handle)
				time.Sleep(10 * time.Millisecond)
			}
			if asked, _, reused := b.idp.counts(); asked > 2 || len(reused) > 0 {
				t.Errorf("%s: asked %d times in half a second, reused %v", code, asked, reused)
			}
			time.Sleep(time.Minute)
			b.mustAsk(handle)
			if asked, _, _ := b.idp.counts(); asked < 2 {
				t.Errorf("%s: asked %d times after a minute, want again", code, asked)
			}
		})
	}
}

// What a provider says of one person says nothing of whether it can be reached: the others are asked about in time.
func TestNonsenseAboutOneKeepsNobodyElseWaiting(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, _ := b.signIn("alice")
		illegible(b, oidc.ProviderInvalidAnswer)
		time.Sleep(limits.Recheck)
		b.mustAsk(handle)
		if away := b.recheck.Away(); len(away) > 0 {
			t.Errorf("away are %v", away)
		}
	})
}

// Once nobody is believed any more by whom the provider can be reached, the browser may learn there what it is: an answer that
// stays as it is would keep the person out until the session ends.
func TestNonsenseLeadsToTheBrowserAfterTheGrace(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, _ := b.signIn("alice")
		illegible(b, oidc.TokenInvalid)
		for range int((limits.Recheck + limits.Grace) / time.Minute) {
			b.mustAsk(handle)
			time.Sleep(time.Minute)
		}
		b.wantError(handle, ErrBrowser)
		b.wantError(handle, ErrBrowser)
	})
}

// A provider that refuses the token of before a sign-in says nothing of the session that this sign-in has raised meanwhile.
func TestARefusalThatASignInOvertookEndsNothing(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		b.idp.disable("alice", time.Now())
		b.idp.set(func() { b.idp.slow = 3 * time.Second })
		time.Sleep(limits.Recheck - time.Minute)
		b.mustAsk(handle) // sets the refresh off, in the background
		time.Sleep(time.Second)
		b.idp.set(func() { b.idp.slow = 0; delete(b.idp.disabled, "alice") })
		raised, _, err := b.keeper.Raise(t.Context(), s.ID, handle, session.Renewal{Identity: s.Identity, Secrets: session.Secrets{RefreshToken: b.idp.grant("alice")}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		b.mustAsk(raised)
		if p, err := b.keeper.Person(t.Context(), "corp|alice"); len(b.records) > 0 || err != nil || p.Disabled {
			t.Errorf("records %v, person %+v, %v", b.records, p, err)
		}
		time.Sleep(limits.Recheck)
		b.mustAsk(raised)
	})
}

// A sign-in that brought no new refresh token keeps the one of before, which a refresh under way has just used: what the
// refresh got in its place is stored, and what the sign-in proved stays.
func TestASignInDoesNotBringAUsedTokenBack(t *testing.T) {
	inBubble(t, limits, func(t *testing.T, b *bed) {
		handle, s := b.signIn("alice")
		old, _, err := b.keeper.Secrets(t.Context(), s.ID)
		if err != nil {
			t.Fatal(err)
		}
		b.idp.set(func() { b.idp.slow = 3 * time.Second })
		time.Sleep(limits.Recheck - time.Minute)
		b.mustAsk(handle) // sets the refresh off, in the background
		time.Sleep(time.Second)
		proved := *s.Identity
		proved.ACR = "gold"
		raised, _, err := b.keeper.Raise(t.Context(), s.ID, handle, session.Renewal{Identity: &proved, Secrets: old})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if now := b.mustAsk(raised); now.Identity.ACR != "gold" {
			t.Errorf("what was proved is gone: %+v", now.Identity)
		}
		time.Sleep(limits.Recheck)
		b.mustAsk(raised)
		time.Sleep(10 * time.Second)
		b.mustAsk(raised)
		if asked, _, reused := b.idp.counts(); asked != 2 || len(reused) > 0 {
			t.Errorf("asked %d times, used twice %v", asked, reused)
		}
	})
}
