package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/policy"
	"sallyport/policy/review"
)

// scene is a change of policy, and records of two policies to replay.
type scene struct {
	from, to *policy.Engine
	older    *policy.Engine
	records  []Record
	want     map[string]finding
}

func randomScene(t *testing.T, r *rand.Rand) *scene {
	t.Helper()
	s := &scene{from: randomEngine(t, r), to: randomEngine(t, r), older: randomEngine(t, r)}
	for _, e := range []*policy.Engine{s.from, s.from, s.older} {
		g := newTraffic(t, r, e)
		for range 25 {
			s.records = append(s.records, g.record())
		}
	}
	s.want = s.brute(t)
	return s
}

// simple are scenes in each of which one thing changes: the time zone in which an app is open, how sensitive an app is,
// and who may.
func simple(t *testing.T, r *rand.Rand) []*scene {
	t.Helper()
	hours := policy.App{Name: "wiki", Access: policy.Access{{Public: true, Hours: &policy.Hours{From: "08:00", To: "17:00"}}}}
	staff := policy.App{Name: "wiki", Access: policy.Access{{Groups: []string{"staff"}}}}
	sales := policy.App{Name: "wiki", Access: policy.Access{{Groups: []string{"sales"}}}}
	low, high := policy.App{Name: "own", Sensitivity: "low"}, policy.App{Name: "own", Sensitivity: "high"}
	low.Labels, high.Labels = map[string]string{"team": "a"}, map[string]string{"team": "a"}
	rego := fmt.Sprintf(own, "staff")
	return []*scene{
		between(t, r, engine(t, policy.Config{Timezone: "UTC"}, "", hours), engine(t, policy.Config{Timezone: "Asia/Tokyo"}, "", hours)),
		between(t, r, engine(t, policy.Config{}, rego, low), engine(t, policy.Config{}, rego, high)),
		between(t, r, engine(t, policy.Config{}, "", staff), engine(t, policy.Config{}, "", sales)),
	}
}

func between(t *testing.T, r *rand.Rand, from, to *policy.Engine) *scene {
	t.Helper()
	s := &scene{from: from, to: to, older: from}
	g := newTraffic(t, r, from)
	for range 100 {
		s.records = append(s.records, g.record())
	}
	s.want = s.brute(t)
	return s
}

func (s *scene) config() Config {
	return Config{From: s.from, To: s.to, Source: Of(s.records...), Policy: func(_ context.Context, digest string) (*policy.Engine, error) {
		if digest == s.older.Digest() {
			return s.older, nil
		}
		return nil, errors.New("not at hand")
	}}
}

// finding is what a replay must know about each person's requests.
type finding struct {
	Requests int64
	Last     string
}

// brute decides every record under both policies, one by one.
func (s *scene) brute(t *testing.T) map[string]finding {
	t.Helper()
	from, to := newTraffic(t, nil, s.from).side, newTraffic(t, nil, s.to).side
	found := make(map[string]finding)
	for _, r := range s.records {
		in, err := policy.ParseInput(r.Input)
		if r.Changed != nil {
			in, err = policy.ParseChanged(r.Input, r.Changed)
		}
		if err != nil {
			t.Fatal(err)
		}
		a, b := from.Recompute(t.Context(), from.view(in).AppendJSON(nil)), to.Recompute(t.Context(), to.view(in).AppendJSON(nil))
		if change := review.Compare(a, b); change != review.Unchanged {
			addFinding(found, change, in.Subject.ID, in.Resource.ID, a, b, finding{r.weight(), r.Time.UTC().String()})
		}
	}
	return found
}

func addFinding(found map[string]finding, change review.Change, person, app string, from, to *policy.Verdict, f finding) {
	key := strings.Join([]string{string(change), person, app, string(from.JSON), string(to.JSON)}, " ")
	f.Requests += found[key].Requests
	f.Last = max(f.Last, found[key].Last)
	found[key] = f
}

// check compares a result with that of deciding each by itself.
func (s *scene) check(result *Result) error {
	got := make(map[string]finding)
	for _, d := range result.Differences {
		person := ""
		if len(d.People) == 1 {
			person = d.People[0].ID
		}
		if person != d.Input.Subject.ID {
			return fmt.Errorf("the example of %s is a request of %s", person, d.Input.Subject.ID)
		}
		addFinding(got, d.Change, person, d.Input.Resource.ID, d.From, d.To, finding{d.Requests, d.Last.UTC().String()})
	}
	if diff := cmp.Diff(s.want, got); diff != "" {
		return fmt.Errorf("by brute force (-) and by replay (+):\n%s", diff)
	}
	total := int64(0)
	for _, f := range s.want {
		total += f.Requests
	}
	if sum := slices.Collect(maps.Values(result.Totals.Changed)); total != add(sum) {
		return fmt.Errorf("%v requests changed, want %d", result.Totals.Changed, total)
	}
	if p := &result.Parity; !p.Holds() || p.Unchecked != 0 || p.Checked != result.Totals.Requests {
		return fmt.Errorf("no parity: %+v", *p)
	}
	return nil
}

func add(numbers []int64) (sum int64) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

func TestReplayFindsWhatBruteForceFinds(t *testing.T) {
	r := random(t)
	for range rounds(20) {
		s := randomScene(t, r)
		result, err := Run(t.Context(), s.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.check(result); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplayFaultsAreCaught makes the mistakes that a replay could make, each of which the comparison with brute force
// must see in one scene or another.
func TestReplayFaultsAreCaught(t *testing.T) {
	faults := map[string]func(t *testing.T, s *scene, r *run){
		"a field is left out of the projection": func(t *testing.T, s *scene, r *run) {
			narrow, err := engine(t, policy.Config{}, "", policy.App{Name: "any"}).Projection(t.Context(), "any")
			if err != nil {
				t.Fatal(err)
			}
			for _, digest := range []string{s.from.Digest(), s.older.Digest()} {
				j := r.judge(t.Context(), digest)
				for _, app := range j.own.Apps() {
					j.plan(t.Context(), app).fields = narrow
				}
			}
		},
		"the policies' own facts of apps are not looked at": func(_ *testing.T, _ *scene, r *run) {
			r.from.apps, r.to.apps = nil, nil
		},
		"time zones are not looked at": func(_ *testing.T, _ *scene, r *run) {
			r.to.zone = r.from.zone
		},
		"patches are skipped": func(_ *testing.T, s *scene, r *run) {
			r.config.Source = altered(s.records, func(rec *Record) { rec.Changed = nil })
		},
		"weights are forgotten": func(_ *testing.T, s *scene, r *run) {
			r.config.Source = altered(s.records, func(rec *Record) { rec.Weight = 0 })
		},
		"records are lost": func(_ *testing.T, s *scene, r *run) {
			r.config.Source = Of(s.records[len(s.records)/4:]...)
		},
		"policies are mixed up": func(_ *testing.T, _ *scene, r *run) {
			r.from, r.to = r.to, r.from
		},
	}
	random := random(t)
	scenes := simple(t, random)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			for _, s := range scenes {
				r, err := newRun(s.config())
				if err != nil {
					t.Fatal(err)
				}
				r.config.Workers = 1
				fault(t, s, r)
				result, err := r.all(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if s.check(result) != nil {
					return
				}
			}
			t.Error("it went unnoticed")
		})
	}
}

func altered(records []Record, change func(*Record)) Source {
	list := slices.Clone(records)
	for i := range list {
		change(&list[i])
	}
	return Of(list...)
}

func TestRecordedAnswerThatDoesNotComeOutAgain(t *testing.T) {
	e := engine(t, policy.Config{}, "", policy.App{Name: "wiki", Access: policy.Access{{Groups: []string{"staff"}}}})
	g := newTraffic(t, rand.New(rand.NewPCG(1, 1)), e)
	good, bad, late := g.record(), g.record(), g.record()
	bad.Allow, bad.Weight = !bad.Allow, 3
	late.Reason, late.Allow, late.Weight = policy.ReasonTimeout, false, 1
	good.Weight = 1
	result, err := Run(t.Context(), Config{From: e, To: e, Source: Of(good, bad, late)})
	if err != nil {
		t.Fatal(err)
	}
	p := result.Parity
	if p.Checked != 4 || p.Different != 3 || p.TimedOut != 1 || p.Holds() || len(p.Examples) != 1 || p.Examples[0].Record != bad.ID {
		t.Errorf("got %+v, want 3 of 4 different, with %s as the example", p, bad.ID)
	}
	if len(result.Differences) != 0 {
		t.Errorf("a policy differs from itself: %+v", result.Differences)
	}
}

func TestPolicyThatIsNotAtHand(t *testing.T) {
	apps := policy.App{Name: "wiki", Access: policy.Access{{Groups: []string{"staff"}}}}
	e, other := engine(t, policy.Config{}, "", apps), engine(t, policy.Config{}, "", apps, policy.App{Name: "crm"})
	r := newTraffic(t, rand.New(rand.NewPCG(1, 1)), e).record()
	result, err := Run(t.Context(), Config{From: other, To: other, Source: Of(r)})
	if err != nil {
		t.Fatal(err)
	}
	if p := result.Parity; p.Unchecked != r.weight() || p.Checked != 0 || p.Holds() || result.Totals.Replayed != r.weight() {
		t.Errorf("got %+v, want it replayed and not checked", p)
	}
}

func TestNotReplayable(t *testing.T) {
	app := policy.App{Name: "wiki", Access: policy.Access{{Groups: []string{"staff"}}}}
	from := engine(t, policy.Config{}, "", app)
	app.Access = policy.Access{{Emails: []string{"ada@corp.example"}}}
	to := engine(t, policy.Config{}, "", app)
	g := newTraffic(t, rand.New(rand.NewPCG(1, 1)), from)
	for name, test := range map[string]struct {
		change func(r *Record, c *Config)
		reason string
	}{
		"unusable":    {func(r *Record, _ *Config) { r.Unusable = "it has no input" }, "it has no input"},
		"other form":  {func(r *Record, _ *Config) { r.Input = []byte(`{"v":2}`) }, notReadable},
		"other app":   {func(r *Record, _ *Config) { r.App = "crm" }, otherApp},
		"broken":      {func(r *Record, _ *Config) { r.Changed = []byte(`{`) }, notReadable},
		"wrong types": {func(r *Record, _ *Config) { r.Changed = []byte(`{"subject":7}`) }, notReadable},
		"not held": {func(_ *Record, c *Config) {
			c.Lacks = func(app string, reads []string) string {
				return fmt.Sprint(app, " needs ", reads)
			}
		}, "wiki needs [subject.type subject.email subject.email_verified subject.groups subject.token.apps subject.token.methods action.name action.method resource.id context.request.cross_origin context.request.cross_site_unsafe]"},
	} {
		t.Run(name, func(t *testing.T) {
			r := g.record()
			r.Changed = nil
			c := Config{From: from, To: to}
			test.change(&r, &c)
			c.Source = Of(r)
			result, err := Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			want := []NotReplayable{{Reason: test.reason, Requests: r.weight(), Records: []string{r.ID}}}
			if diff := cmp.Diff(want, result.NotReplayable); diff != "" || result.Totals.Replayed != 0 {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRequestsThatNoPolicyWasAskedAbout(t *testing.T) {
	e := engine(t, policy.Config{}, "")
	result, err := Run(t.Context(), Config{From: e, To: e, Source: Of(Record{ID: "1", Refused: true, Unusable: "no input", Weight: 2})})
	if err != nil {
		t.Fatal(err)
	}
	if totals := result.Totals; totals.Refused != 2 || totals.NotReplayable != 0 || totals.Requests != 2 {
		t.Errorf("got %+v, want 2 refused", totals)
	}
}

func TestSourceThatFails(t *testing.T) {
	e := engine(t, policy.Config{}, "")
	broken := errors.New("broken")
	_, err := Run(t.Context(), Config{From: e, To: e, Source: func(yield func(Batch, error) bool) { yield(nil, broken) }})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := newTraffic(t, rand.New(rand.NewPCG(1, 1)), engine(t, policy.Config{}, "", policy.App{Name: "wiki"}))
	if _, err := Run(ctx, Config{From: e, To: e, Source: Of(g.record())}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
}
