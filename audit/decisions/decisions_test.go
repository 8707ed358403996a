package decisions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sallyport/audit"
)

func rounds(n int) int {
	if r, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && r > 0 {
		return r
	}
	return n
}

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SALLYPORT_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// digest is a policy's.
const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// writeLog writes a log with records of all kinds, wild names among them.
func writeLog(t testing.TB, r *rand.Rand, n int) *audit.Reader {
	t.Helper()
	dir := t.TempDir()
	a, err := audit.Open(audit.Config{Dir: dir, Seal: true}, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var first []string
	for i := range n {
		rec := randomRecord(r, i, first)
		receipt, err := a.Decisions().Append(t.Context(), rec)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Type == audit.TypeDecision {
			first = append(first, receipt.ID)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := audit.OpenReader(dir, audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

func randomRecord(r *rand.Rand, i int, first []string) *audit.Record {
	rec := &audit.Record{
		Type: audit.TypeDecision, App: pick(r, "wiki", "crm", "\"decision\":\\\x00é"), Effect: pick(r, audit.Allow, audit.Deny), Reason: pick(r, "allow", "policy"),
		Policy: audit.Policy{Digest: digest, Revision: pick(r, "", "r\"1")}, Decision: json.RawMessage(`{"allow":true,"labels":{"input":"{\"}"}}`),
		Input: json.RawMessage(fmt.Sprintf(`{"subject":{"type":"reevaluated","claims":{"time":"x","input_digest":%q,"a":[1,{"b":"]}\\\""}]}},"n":%d}`, pick(r, "", "sha256:"), i)),
	}
	switch k := r.IntN(10); {
	case k == 0:
		return &audit.Record{Type: audit.TypeOutcome, Outcome: &audit.Outcome{Of: "x"}}
	case k == 1:
		rec.Input, rec.Decision, rec.Policy, rec.Effect = nil, nil, audit.Policy{}, audit.Reject
	case k < 4 && len(first) > 0:
		rec.Type, rec.Input = audit.TypeReevaluated, nil
		rec.Detail = json.RawMessage(fmt.Sprintf(`{"of":%q,"changed":{"n":%d}}`, pick(r, append(first[max(0, len(first)-40):], "none")...), -i))
	}
	return rec
}

// slow reads the log as plainly as can be.
func slow(t *testing.T, log *audit.Reader, q Query) []Decision {
	t.Helper()
	var list []Decision
	inputs := make(map[string][]byte)
	for e, err := range log.All(t.Context(), audit.Filter{From: q.From, To: q.To}) {
		if err != nil {
			t.Fatal(err)
		}
		rec := e.Record
		if !q.chooses(e.Raw) || rec.Type != audit.TypeDecision && rec.Type != audit.TypeReevaluated {
			continue
		}
		list = append(list, Decision{ID: rec.ID, Time: rec.Time, App: rec.App, Policy: rec.Policy.Digest, Input: rec.Input,
			Allow: rec.Effect == audit.Allow, Reason: rec.Reason, Decision: rec.Decision, Changed: rec.Detail})
	}
	for e, err := range log.All(t.Context(), audit.Filter{Type: audit.TypeDecision}) {
		if err != nil {
			t.Fatal(err)
		}
		inputs[e.Record.ID] = e.Record.Input
	}
	for i := range list {
		complete(t, &list[i], inputs)
	}
	return list
}

func complete(t *testing.T, d *Decision, inputs map[string][]byte) {
	t.Helper()
	if d.Changed == nil {
		if d.Input == nil {
			d.Unusable = Unasked
		}
		return
	}
	var detail struct {
		Of      string          `json:"of"`
		Changed json.RawMessage `json:"changed"`
	}
	if err := json.Unmarshal(d.Changed, &detail); err != nil {
		t.Fatal(err)
	}
	if d.Input, d.Changed = inputs[detail.Of], detail.Changed; d.Input == nil {
		d.Changed, d.Unusable = nil, Firstless
	}
}

// collect goes through the batches, several at once.
func collect(t *testing.T, source iter.Seq2[Batch, error]) []Decision {
	t.Helper()
	var all []Decision
	var mu sync.Mutex
	var group sync.WaitGroup
	for batch, err := range source {
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			for d := range batch {
				d.Input, d.Changed, d.Decision = bytes.Clone(d.Input), bytes.Clone(d.Changed), bytes.Clone(d.Decision)
				mu.Lock()
				all = append(all, d)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return all
}

func byID(list []Decision) []Decision {
	slices.SortFunc(list, func(a, b Decision) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func TestDecisionsAreThoseOfTheLog(t *testing.T) {
	r := random(t)
	log := writeLog(t, r, 10*rounds(20))
	var times []time.Time
	for e, err := range log.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, e.Record.Time)
	}
	for name, q := range map[string]Query{
		"all":   {},
		"match": {Match: func(line []byte) bool { return bytes.Contains(line, []byte(`"effect":"allow"`)) }},
		"from":  {From: times[len(times)/3]},
		"to":    {To: times[len(times)/3]},
		"none":  {From: times[0].Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			want, got := byID(slow(t, log, q)), byID(collect(t, Log(t.Context(), log, q)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-slow +fast:\n%s", diff)
			}
			if (len(got) == 0) != (name == "none") {
				t.Errorf("%d decisions", len(got))
			}
		})
	}
}

// lines are records that no log would write.
func lines(all ...string) Lines {
	return func(yield func([]byte, error) bool) {
		for _, line := range all {
			if !yield([]byte(line), nil) {
				return
			}
		}
	}
}

func TestBrokenRecords(t *testing.T) {
	for name, line := range map[string]string{
		"no object":    `"type":"decision"`,
		"cut":          `{"v":1,"id":"a","type":"decision","time":"2026-11-23T09:30:00.000000000Z","input":{"a":[1`,
		"no time":      `{"v":1,"id":"a","type":"decision","input":{}}`,
		"other time":   `{"v":1,"id":"a","type":"decision","time":"2026-11-23","input":{}}`,
		"app":          `{"v":1,"id":"a","type":"decision","time":"2026-11-23T09:30:00.000000000Z","app":7,"input":{}}`,
		"policy":       `{"v":1,"id":"a","type":"decision","time":"2026-11-23T09:30:00.000000000Z","policy":{"digest":7},"input":{}}`,
		"more":         `{"v":1,"id":"a","type":"decision","time":"2026-11-23T09:30:00.000000000Z","input":{}}}`,
		"again of":     `{"v":1,"id":"a","type":"reevaluated","time":"2026-11-23T09:30:00.000000000Z","detail":{"of":7}}`,
		"again change": `{"v":1,"id":"a","type":"reevaluated","time":"2026-11-23T09:30:00.000000000Z","detail":{"of":"b"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got := collect(t, Records(lines(line), Query{}))
			if len(got) != 1 || got[0].Unusable != Unreadable {
				t.Errorf("got %+v, want one that cannot be read", got)
			}
		})
	}
}

func TestFirstDecisionWithoutInput(t *testing.T) {
	const first = `{"v":1,"id":"a","type":"decision","time":"2026-11-23T09:30:00.000000000Z"}`
	const later = `{"v":1,"id":"b","type":"reevaluated","time":"2026-11-23T09:31:00.000000000Z","detail":{"of":"a","changed":{}}}`
	got := byID(collect(t, Records(lines(first, later), Query{})))
	if len(got) != 2 || got[0].Unusable != Unasked || got[1].Unusable != Firstless {
		t.Errorf("got %+v", got)
	}
}

func TestLogThatCannotBeRead(t *testing.T) {
	broken := errors.New("broken")
	for _, err := range Records(func(yield func([]byte, error) bool) { yield(nil, broken) }, Query{}) {
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	for range Records(lines(`{"v":1,"id":"a","type":"decision"}`, `{"v":1,"id":"b","type":"reevaluated"}`), Query{}) {
		break // and nothing is yielded after that
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"a","type":"decision","time":"2026-11-23T09:30:00.000000000Z","app":"a","policy":{"digest":"d"},"input":{"a":["}"]},"decision":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, d := range collect(t, Records(lines(string(line)), Query{})) {
			var rec struct{ Input, Decision json.RawMessage }
			if d.Unusable == "" && json.Unmarshal(line, &rec) == nil && json.Valid(d.Input) != (rec.Input != nil) {
				t.Errorf("%s: input %s", line, d.Input)
			}
		}
	})
}

func BenchmarkDecisions(b *testing.B) {
	line := fmt.Sprintf(`{"v":1,"id":"0193","log":"decision","seq":1,"boot":{"id":"x","n":1},"type":"decision","time":"2026-11-23T09:30:00.000000000Z","app":"wiki","effect":"allow","reason":"allow","input":{"a":%q},"policy":{"digest":%q},"decision":{"allow":true}}`, strings.Repeat("x", 1500), digest)
	all := Lines(func(yield func([]byte, error) bool) {
		for range 20_000 {
			if !yield([]byte(line), nil) {
				return
			}
		}
	})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for batch, err := range Records(all, Query{}) {
			if err != nil {
				b.Fatal(err)
			}
			for range batch {
				n++
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}
