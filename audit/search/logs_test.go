package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/audittest"
	"sallyport/audit/filter"
	"sallyport/audit/search"
	"sallyport/audit/search/searchtest"
	"sallyport/audit/search/sqlite"
)

// machine is an audit directory in memory.
type machine struct{ *audittest.Machine }

func newMachine() machine { return machine{audittest.NewDisk(nil).Boot(-1, false)} }

func (m machine) OpenFile(name string, flag int) (audit.File, error) {
	f, err := m.Machine.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (m machine) Lock(name string) (io.Closer, error) {
	l, err := m.Machine.Lock(name)
	if errors.Is(err, audittest.ErrHeld) {
		return nil, audit.ErrLocked
	}
	return l, err
}

// writing is a gateway's log on a machine.
type writing struct {
	*audit.Audit
	now atomic.Int64 // nanoseconds since 1970
}

func startWriting(t testing.TB, m machine) *writing {
	t.Helper()
	return startWritingIn(t, m, 1<<20)
}

func startWritingIn(t testing.TB, m machine, segments int64) *writing {
	t.Helper()
	w := new(writing)
	w.now.Store(time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC).UnixNano())
	a, err := audit.Open(audit.Config{Dir: "unused", SegmentSize: segments}, audit.Options{
		FS: m, Log: slog.New(slog.DiscardHandler), Replica: "one",
		Now: func() time.Time { return time.Unix(0, w.now.Load()).UTC() },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Audit = a
	return w
}

// write appends random records to the decision log.
func (w *writing) write(t testing.TB, rnd *rand.Rand, n int) {
	t.Helper()
	for range n {
		r := randomRecord(rnd)
		if _, err := w.Decisions().Append(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		w.now.Add(int64(time.Duration(rnd.IntN(1000)-20) * time.Millisecond)) // goes back now and then
	}
}

func pick[T any](rnd *rand.Rand, all ...T) T { return all[rnd.IntN(len(all))] }

var (
	emails = []string{"", "alice@corp.example", "Alice@Corp.example", "kevin@corp.example", "\u212aevin@corp.example", "stra\u00dfe@corp.example", "bob\\\"@x"}
	apps   = []string{"", "payroll", "wiki", "w\"i\\ki\n"}
)

func randomRecord(rnd *rand.Rand) *audit.Record {
	person := rnd.IntN(6)
	r := &audit.Record{
		Type: pick(rnd, audit.TypeDecision, audit.TypeDecision, audit.TypeOutcome, audit.TypeControl), App: pick(rnd, apps...),
		Effect: pick(rnd, "", audit.Allow, audit.Allow, audit.Deny, audit.Reject), Reason: pick(rnd, "", "policy", "step_up"),
		Code: pick(rnd, "", "", "sign_in", "reload"), Session: pick(rnd, "", fmt.Sprint("s", person)),
		RequestID: pick(rnd, "", fmt.Sprint("r", rnd.IntN(50)), fmt.Sprintf("0192d5b0-%04x-7abc-8def-0123456789ab", rnd.IntN(50))),
	}
	if rnd.IntN(3) == 0 {
		r.Actor = &audit.Actor{Kind: pick(rnd, "user", "os"), ID: fmt.Sprint("corp|", person), Name: emails[person]}
	}
	if rnd.IntN(4) == 0 {
		r.Policy = audit.Policy{Digest: pick(rnd, "sha256:aa", "sha256:bb")}
	}
	if rnd.IntN(8) > 0 {
		r.Input = randomInput(rnd, person)
	}
	if rnd.IntN(6) == 0 {
		r.Detail = json.RawMessage(pick(rnd, `{"method":"PROPFIND","target":"/x?y"}`, `[]`, `{"method":7}`))
	}
	if r.Type == audit.TypeOutcome {
		r.Outcome = &audit.Outcome{Of: "x", Status: pick(rnd, 200, 404, 500)}
	}
	return r
}

// randomInput is an input as a policy is asked, or one that is spelled to confuse.
func randomInput(rnd *rand.Rand, person int) json.RawMessage {
	email, _ := json.Marshal(emails[person])
	method := pick(rnd, "GET", "POST", "FROB")
	switch rnd.IntN(10) {
	case 0:
		return json.RawMessage(pick(rnd, `"text"`, `[1]`, `{}`, `{"subject":"x"}`, `{"subject":{"id":7}}`, `null`))
	case 1:
		return json.RawMessage(fmt.Sprintf(`{"subject":{"id":"corp|%d","id":"corp|5","email":%s},"subject":{"id":"corp|4"}}`, person, email))
	case 2:
		return json.RawMessage(fmt.Sprintf(`{ "SUBJECT":{"ID":"corp|%d"}, "s\u0075bject" : {"id":"corp|1"}, "action":{"method":"G\u0045T"} }`, person))
	}
	return json.RawMessage(fmt.Sprintf(`{"subject":{"type":"user","id":"corp|%d","email":%s,"groups":["a","b"]},"action":{"name":"read","method":"%s"},`+
		`"resource":{"id":"x","path":"/%d"},"context":{"note":"}{\"subject\""}}`, person, email, method, rnd.IntN(9)))
}

// randomFilter is a filter that some of the records are likely to meet.
func randomFilter(t testing.TB, rnd *rand.Rand, like *audit.Record) *filter.Filter {
	t.Helper()
	q := filter.Quote
	var terms []string
	for range rnd.IntN(4) {
		terms = append(terms, pick(rnd,
			"app == "+q(like.App), "app != "+q(like.App), "effect == "+q(string(like.Effect)), "reason == "+q(like.Reason),
			"type == "+q(string(like.Type)), "code == "+q(like.Code), "session == "+q(like.Session), "request_id == "+q(like.RequestID),
			"policy == "+q(like.Policy.Digest), "boot == "+q(like.Boot.ID), "id == "+q(like.ID), "id == \"nothing\"",
			"user == "+q(fmt.Sprint("corp|", rnd.IntN(6))), "user == "+q(pick(rnd, emails...)), `user == "KEVIN@corp.EXAMPLE"`,
			"email == "+q(pick(rnd, emails...)), "subject == "+q(fmt.Sprint("corp|", rnd.IntN(6))), "method == "+q(pick(rnd, "GET", "FROB", "PROPFIND")),
			`"a" in groups`, "status >= 400", `path.startsWith("/1")`, `(app == "payroll" || effect == "deny")`, "actor == "+q(fmt.Sprint("corp|", rnd.IntN(6))),
			"time >= "+q(like.Time.Format(time.RFC3339Nano)), "time < "+q(like.Time.Format(time.RFC3339Nano)), "time == "+q(like.Time.Format(time.RFC3339Nano)),
			fmt.Sprint("seq >= ", like.Seq), fmt.Sprint("seq < ", like.Seq+20), fmt.Sprint("seq == ", like.Seq), `log == "decision"`, `log == "control"`,
			`app in ["wiki"]`, `user in ["corp|1", "corp|2"]`, "true", "false", "memo",
		))
	}
	text := strings.Join(terms, " && ")
	if text == "" {
		return nil
	}
	f, err := filter.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

// scan is what a search has to yield.
func scan(t testing.TB, src *audit.Reader, q search.Query) []uint64 {
	t.Helper()
	var all []uint64
	for e, err := range src.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if q.Where == nil || q.Where.Matches(e.Record) {
			all = append(all, e.Record.Seq)
		}
	}
	var want []uint64
	for i := range all {
		seq := all[i]
		if q.Newest {
			seq = all[len(all)-1-i]
		}
		behind := q.After == nil || q.Newest && seq < *q.After || !q.Newest && seq > *q.After
		if behind && (q.Limit == 0 || len(want) < q.Limit) {
			want = append(want, seq)
		}
	}
	return want
}

func seqs(found iter.Seq2[audit.Entry, error]) (all []uint64, err error) {
	for e, err := range found {
		if err != nil {
			return all, err
		}
		r, err := audit.DecodeRecord(e.Raw)
		if err != nil || r.Seq != e.Record.Seq {
			return all, fmt.Errorf("record %d comes with other bytes: %v", e.Record.Seq, err)
		}
		all = append(all, e.Record.Seq)
	}
	return all, nil
}

func openCopy(t testing.TB, dir string) *search.Copy {
	t.Helper()
	s, err := sqlite.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	c := search.New(s)
	t.Cleanup(func() { c.Close() })
	return c
}

func memoryCopy() *search.Copy { return search.New(searchtest.NewMemory()) }

func index(t testing.TB, c *search.Copy, src search.Source, limit int) search.Progress {
	t.Helper()
	p, err := c.Index(t.Context(), audit.DecisionLog, src, limit)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// seeded is a seed that is printed, so that a failure can be repeated with SALLYPORT_SEED.
func seeded(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	return seed
}

// rounds is how often a test that draws at random does so: SALLYPORT_ROUNDS or a small number.
func rounds(t testing.TB, few int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return few
}
