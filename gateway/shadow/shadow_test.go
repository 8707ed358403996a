package shadow

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/policy"
	"sallyport/policy/review"
)

// stage is a trial with what it recorded, and the policy in force.
type stage struct {
	*Trial

	mu      sync.Mutex
	active  *policy.Engine
	records []noted
}

type noted struct {
	code   string
	detail any
}

func newStage(t testing.TB, active, candidate *policy.Engine) *stage {
	t.Helper()
	s := &stage{active: active}
	s.Trial = New(Config{Candidate: candidate, Active: s.inForce, Record: s.record, Log: slog.New(slog.DiscardHandler)})
	s.budget.clock = func() time.Duration { return 0 } // it never runs out, however slow the machine
	return s
}

func (s *stage) inForce() *policy.Engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

func (s *stage) record(_ context.Context, code string, detail any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, noted{code, detail})
	return nil
}

// of is what was recorded under a code.
func (s *stage) of(code string) (details []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.code == code {
			details = append(details, r.detail)
		}
	}
	return details
}

// decided has the policy in force decide, and the trial hear of it.
func (s *stage) decided(record string, in *policy.Input) {
	engine := s.inForce()
	s.Offer(Observed{Input: in, Verdict: engine.Decide(context.Background(), in), Policy: engine, Record: record})
}

// compile is a policy of one app, wiki.
func compile(t testing.TB, access policy.Access) *policy.Engine { return compileIn(t, "UTC", access) }

func compileIn(t testing.TB, zone string, access policy.Access) *policy.Engine {
	t.Helper()
	bundle, err := policy.Build(policy.Config{Memo: true, Timezone: zone}, []policy.App{{Name: "wiki", Access: access}})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.Compile(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

func letIn(groups ...string) policy.Access { return policy.Access{{ID: "members", Groups: groups}} }

// asks is somebody's request for the wiki.
func asks(name string, groups ...string) *policy.Input {
	in := &policy.Input{
		Subject: policy.Subject{Type: policy.TypeUser, ID: "corp|" + name, Email: name + "@corp.test", EmailVerified: true, Groups: groups,
			Authn: &policy.Authn{Provider: "corp"}, Session: &policy.Session{ID: "session"}},
		Action:   policy.Action{Name: policy.ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: "wiki", Path: "/"},
	}
	in.Context.SetTime(time.Now(), time.UTC)
	return in
}

// running has the trial run until the test ends.
func running(t *testing.T, s *stage) {
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
}

func TestFirstDifferencesAreRecordedAndRepeatsSummedUp(t *testing.T) {
	active, candidate := compile(t, letIn("staff")), compile(t, letIn("staff", "guests"))
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, active, candidate)
		running(t, s)
		for n := range 5 {
			s.decided(fmt.Sprint("ada", n), asks("ada", "staff"))
			s.decided(fmt.Sprint("gil", n), asks("gil", "guests"))
			s.decided(fmt.Sprint("gus", n), asks("gus", "guests"))
		}
		time.Sleep(pollEvery)
		synctest.Wait()
		r := s.Report()
		if r.Compared != 15 || r.Clean || r.Changes[review.Gained] != 10 || r.Dropped != 0 {
			t.Errorf("the report is %+v", r)
		}
		if len(r.Differences) != 1 || r.Differences[0].Requests != 10 || r.Differences[0].People != 2 || len(r.Differences[0].Examples) != 2 {
			t.Errorf("the differences are %+v", r.Differences)
		}
		found := s.of(CodeDifference)
		if len(found) != 2 {
			t.Fatalf("%d differences are on record, want the first of either person: %+v", len(found), found)
		}
		first := found[0].(*Found)
		want := Found{Candidate: candidate.Digest(), Active: active.Digest(), Of: "gil0", App: "wiki", Change: review.Gained,
			Person: review.Person{ID: "corp|gil", Name: "gil@corp.test"}, From: first.From, To: Answer{Allow: true, Reason: "allow", Rule: "members"}}
		if *first != want || first.From.Allow {
			t.Errorf("got %+v, want %+v", *first, want)
		}
		if got := s.of(CodeSummary); got != nil {
			t.Errorf("summed up before the minute is over: %+v", got)
		}
		time.Sleep(3 * summaryEvery)
		synctest.Wait()
		if got := s.of(CodeSummary); len(got) != 1 || got[0].(Summary).Changes[review.Gained] != 10 {
			t.Errorf("the summaries are %+v, want one: nothing repeated in later minutes", got)
		}
	})
}

func TestEqualAnswersAreClean(t *testing.T) {
	active, candidate := compile(t, letIn("staff")), compile(t, policy.Access{{ID: "renamed", Groups: []string{"staff"}}})
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, active, candidate)
		running(t, s)
		if s.Report().Clean {
			t.Error("clean before anything was compared")
		}
		s.decided("1", asks("ada", "staff"))
		s.decided("2", asks("gil", "guests"))
		time.Sleep(pollEvery)
		synctest.Wait()
		if r := s.Report(); !r.Clean || r.Compared != 2 || r.Changes[review.ReasonOnly] != 2 || !r.CleanSince.Equal(r.Since) {
			t.Errorf("got %+v, want clean with another reason", r)
		}
	})
}

// A reload does not end a trial; what was counted against the policy that went is on record, and counting starts over.
func TestAnotherPolicyInForceStartsOver(t *testing.T) {
	active, candidate := compile(t, letIn("staff")), compile(t, letIn("guests"))
	again := compile(t, letIn("staff"))
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, active, candidate)
		running(t, s)
		s.decided("1", asks("ada", "staff"))
		time.Sleep(pollEvery)
		synctest.Wait()

		s.mu.Lock()
		s.active = again // the same policy, compiled again
		s.mu.Unlock()
		s.decided("2", asks("ada", "staff"))
		time.Sleep(pollEvery)
		synctest.Wait()
		if r := s.Report(); r.Changes[review.Revoked] != 2 {
			t.Errorf("a reload of the same policy: %+v", r)
		}

		late := Observed{Input: asks("ada", "staff"), Verdict: again.Decide(t.Context(), asks("ada", "staff")), Policy: again, Record: "3"}
		s.mu.Lock()
		s.active = candidate
		s.mu.Unlock()
		s.Offer(late)
		s.decided("4", asks("gil", "guests"))
		time.Sleep(pollEvery)
		synctest.Wait()
		if r := s.Report(); r.Compared != 1 || !r.Clean || r.Active != candidate.Digest() || !r.Since.After(r.Started) {
			t.Errorf("against another policy: %+v", r)
		}
		if got := s.of(CodeSummary); len(got) != 1 || got[0].(Summary).Active != active.Digest() || got[0].(Summary).Compared != 2 {
			t.Errorf("what was counted before is on record as %+v", got)
		}
	})
}

// What waits when a trial ends is still compared.
func TestEndComparesWhatWaits(t *testing.T) {
	s := newStage(t, compile(t, letIn("staff")), compile(t, letIn("staff")))
	for n := range 10 {
		s.decided(strconv.Itoa(n), asks("ada", "staff"))
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.Run(ctx)
	if r := s.Report(); r.Compared != 10 {
		t.Errorf("compared %d of 10", r.Compared)
	}
}

// Hours are the candidate's, in its own zone: as they would be were it in force.
func TestCandidateTellsTheTimeInItsZone(t *testing.T) {
	open := policy.Access{{ID: "members", Groups: []string{"staff"}, Hours: &policy.Hours{From: "08:00", To: "10:00"}}}
	active, candidate := compileIn(t, "UTC", open), compileIn(t, "Asia/Tokyo", open)
	s := newStage(t, active, candidate)
	early, late := asks("ada", "staff"), asks("ada", "staff")
	early.Context.SetTime(time.Date(2026, 11, 30, 0, 30, 0, 0, time.UTC), time.UTC) // 09:30 in Tokyo
	late.Context.SetTime(time.Date(2026, 11, 30, 9, 30, 0, 0, time.UTC), time.UTC)
	was := early.Context
	s.decided("early", early)
	s.decided("late", late)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	s.Run(ctx)
	if r := s.Report(); r.Changes[review.Gained] != 1 || r.Changes[review.Revoked] != 1 {
		t.Errorf("got %+v", r)
	}
	if !reflect.DeepEqual(was, early.Context) {
		t.Errorf("the input was changed to %+v", early.Context)
	}
}

func TestOffersNeverWait(t *testing.T) {
	s := newStage(t, compile(t, letIn("staff")), compile(t, letIn("staff")))
	in := asks("ada", "staff")
	for n := range queueLength + 7 { // nobody takes them
		s.decided(strconv.Itoa(n), in)
	}
	if r := s.Report(); r.Dropped != 7 || r.Compared != 0 {
		t.Errorf("got %+v, want 7 dropped", r)
	}
}

// Memory stays bounded whoever comes, and the records per minute do; counts stay exact.
func TestManyDifferencesStayBounded(t *testing.T) {
	active, candidate := compile(t, letIn("staff")), compile(t, letIn("nobody"))
	const people = maxPeople + 500
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, active, candidate)
		running(t, s)
		for n := range people {
			s.decided(strconv.Itoa(n), asks(strconv.Itoa(n), "staff"))
			if n%queueLength == queueLength-1 {
				time.Sleep(pollEvery)
				synctest.Wait()
			}
		}
		time.Sleep(pollEvery)
		synctest.Wait()
		r := s.Report()
		if r.Changes[review.Revoked] != people || r.Unnamed != 500 || r.Differences[0].People != maxPeople {
			t.Errorf("got %d revoked, %d unnamed, %d people", r.Changes[review.Revoked], r.Unnamed, r.Differences[0].People)
		}
		if got := len(s.of(CodeDifference)); got != recordsPerSummary {
			t.Errorf("%d records, want %d", got, recordsPerSummary)
		}
		time.Sleep(summaryEvery)
		s.decided("again", asks("300", "staff")) // had no record yet
		time.Sleep(pollEvery)
		synctest.Wait()
		if got := len(s.of(CodeDifference)); got != recordsPerSummary+1 {
			t.Errorf("%d records in the next minute, want one more", got)
		}
	})
}

// A trial that has used its share lets decisions wait until time has passed.
func TestBudget(t *testing.T) {
	now, used := time.Unix(0, 0), time.Duration(0)
	b := newBudget(now, 2)
	b.clock = func() time.Duration { return used }
	if b.begin(now.Add(time.Hour)); b.credit != burst || !b.left() {
		t.Errorf("an hour saves %v, want %v", b.credit, burst)
	}
	used += time.Minute
	if b.left() || b.credit != debt {
		t.Errorf("a slow evaluation leaves %v, want %v", b.credit, debt)
	}
	used += time.Minute // of others
	b.begin(now.Add(time.Hour + time.Second))
	if want := debt + 40*time.Millisecond; b.credit != want || b.left() { // 2 % of two processors
		t.Errorf("a second later: %v, want %v", b.credit, want)
	}
	if b.begin(now.Add(time.Hour + 2*time.Second)); !b.left() {
		t.Errorf("nothing is left after %v", b.credit)
	}
}

// A candidate whose answers take long is asked less, and what is not compared is counted.
func TestSlowCandidateIsAskedLess(t *testing.T) {
	active := compile(t, letIn("staff"))
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, active, active)
		var used time.Duration
		s.budget.clock = func() time.Duration { used += 10 * time.Millisecond; return used } // for each batch
		running(t, s)
		in := asks("ada", "staff")
		const offered = 100
		for range offered {
			for range queueLength {
				s.decided("record", in)
			}
			time.Sleep(pollEvery)
			synctest.Wait()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		r := s.Report()
		if most := uint64(batch * 50); r.Compared == 0 || r.Compared > most {
			t.Errorf("compared %d, want at most %d", r.Compared, most)
		}
		if got := r.Compared + r.Dropped + uint64(len(s.queue)); got != offered*queueLength {
			t.Errorf("%d of %d decisions are accounted for", got, offered*queueLength)
		}
	})
}

func TestPercentiles(t *testing.T) {
	var y timings
	for n := range 3 * maxTimings {
		y.add(time.Duration(n + 1))
	}
	p := y.percentiles()
	if p.P50 < 2*maxTimings || p.P95 <= p.P50 || p.P99 <= p.P95 || p.P99 > 3*maxTimings || len(y.list) != maxTimings {
		t.Errorf("got %+v of the newest %d", p, len(y.list))
	}
}

// BenchmarkTrial is what a decision costs: the request that offers it, and the trial that compares it, once the candidate
// remembers its answer.
func BenchmarkTrial(b *testing.B) {
	active := compile(b, letIn("staff"))
	quiet := func(context.Context, string, any) error { return nil }
	trial := New(Config{Candidate: compile(b, letIn("staff", "guests")), Active: func() *policy.Engine { return active }, Record: quiet, Log: slog.New(slog.DiscardHandler)})
	for name, in := range map[string]*policy.Input{"same": asks("ada", "staff"), "different": asks("gil", "guests")} {
		o := Observed{Input: in, Verdict: active.Decide(b.Context(), in), Policy: active, Record: "record"}
		b.Run("offer/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				trial.Offer(o)
				<-trial.queue
			}
		})
		b.Run("compare/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				trial.compare(b.Context(), o)
			}
		})
	}
}
