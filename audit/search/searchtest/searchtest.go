// Package searchtest is the conformance suite of search.Store, and the plainest store there is.
package searchtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/search"
)

// Run checks everything that search.Store promises. open returns a store on what a previous one of the same test left;
// stores in memory may return the same one again.
func Run(t *testing.T, open func(t *testing.T) func() search.Store) {
	for name, test := range map[string]func(*testing.T, func() search.Store){
		"a new store knows nothing":             empty,
		"what is extended stays":                stays,
		"a conflict changes nothing":            conflict,
		"find is complete and ordered":          find,
		"doubtful rows are always found":        doubtful,
		"a user is found by id and by any name": users,
		"counts are exact":                      counts,
		"logs do not mix":                       apart,
		"what was pruned is forgotten":          forget,
		"reset and discard begin anew":          anew,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

const log = audit.DecisionLog

func extend(t *testing.T, s search.Store, log string, rows []search.Row) {
	t.Helper()
	was, err := s.State(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	now := was
	if now.Epoch == "" {
		now.Epoch, now.First = "epoch of "+log, rows[0].Seq
	}
	last := rows[len(rows)-1]
	now.Next, now.Last, now.Anchor = last.Seq+1, last.Position, [32]byte{1, byte(last.Seq)}
	if err := s.Extend(t.Context(), log, was, rows, now); err != nil {
		t.Fatal(err)
	}
}

func empty(t *testing.T, open func() search.Store) {
	s := open()
	state, err := s.State(t.Context(), log)
	if err != nil || state != (search.State{}) {
		t.Errorf("state %+v, %v; want none", state, err)
	}
	if hits, _, err := s.Find(t.Context(), log, search.Condition{}, 10); err != nil || len(hits) > 0 {
		t.Errorf("found %v, %v; want nothing", hits, err)
	}
	if n, _, err := s.Count(t.Context(), log, search.Condition{}); err != nil || n != 0 {
		t.Errorf("counted %d, %v; want nothing", n, err)
	}
}

func stays(t *testing.T, open func() search.Store) {
	rows := Rows(rand.New(rand.NewPCG(1, 2)), 0, 300)
	s := open()
	extend(t, s, log, rows[:100])
	extend(t, s, log, rows[100:])
	want, err := s.State(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	if got, err := s.State(t.Context(), log); err != nil || got != want {
		t.Errorf("state %+v, %v; want %+v", got, err, want)
	}
	check(t, s, rows, search.Condition{})
}

func conflict(t *testing.T, open func() search.Store) {
	rows := Rows(rand.New(rand.NewPCG(3, 4)), 0, 30)
	s := open()
	extend(t, s, log, rows[:10])
	was, err := s.State(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	extend(t, s, log, rows[10:20])
	now := was
	now.Next = 30
	if err := s.Extend(t.Context(), log, was, rows[10:], now); !errors.Is(err, search.ErrConflict) {
		t.Errorf("extending an old state answers %v, want ErrConflict", err)
	}
	if err := s.Extend(t.Context(), log, search.State{}, rows[20:], now); !errors.Is(err, search.ErrConflict) {
		t.Errorf("extending no state answers %v, want ErrConflict", err)
	}
	check(t, s, rows[:20], search.Condition{})
}

func find(t *testing.T, open func() search.Store) {
	rnd := rand.New(rand.NewPCG(5, 6))
	rows := Rows(rnd, 100, 3000)
	s := open()
	for chunk := range slices.Chunk(rows, 700) {
		extend(t, s, log, chunk)
	}
	for range 80 {
		check(t, s, rows, Conditions(rnd, rows))
	}
}

func doubtful(t *testing.T, open func() search.Store) {
	rows := Rows(rand.New(rand.NewPCG(7, 8)), 0, 200)
	for i := range rows {
		rows[i].Doubtful = i%50 == 0
	}
	s := open()
	extend(t, s, log, rows)
	for _, c := range []search.Condition{
		{App: "none"}, {User: "nobody"}, {RequestID: "none"}, {Session: "none"}, {Policy: "none"}, {App: rows[7].App, User: rows[7].Email},
		{From: time.Unix(0, 0), To: time.Unix(0, 0)}, {App: "none", From: rows[100].Time},
	} {
		check(t, s, rows, c)
		c.Newest = true
		check(t, s, rows, c)
	}
	if _, _, err := s.Count(t.Context(), log, search.Condition{App: "none"}); !errors.Is(err, search.ErrDoubtful) {
		t.Errorf("counting answers %v, want ErrDoubtful", err)
	}
	if n, _, err := s.Count(t.Context(), log, search.Condition{FromSeq: 1, ToSeq: 50}); err != nil || n != 49 {
		t.Errorf("counting where no doubtful row is answers %d, %v; want 49", n, err)
	}
}

func users(t *testing.T, open func() search.Store) {
	rows := []search.Row{
		{Seq: 0, Subject: "corp|1", Email: "Alice@Corp.example"},
		{Seq: 1, Actor: "corp|1", ActorName: "alice@corp.example"},
		{Seq: 2, Subject: "CORP|1", Email: "bob@corp.example"},
		{Seq: 3, Actor: "uid:0", ActorName: "root"},
		{Seq: 4, Subject: "alice@corp.example"},
		{Seq: 5, Email: "\u212aevin@corp.example"}, // the sign for kelvin
		{Seq: 6},
	}
	for i := range rows {
		rows[i].Time = time.Unix(int64(i), 0)
	}
	s := open()
	extend(t, s, log, rows)
	for _, user := range []string{"corp|1", "CORP|1", "ALICE@corp.example", "root", "ROOT", "uid:0", "UID:0", "kevin@corp.example", "KEVIN@CORP.EXAMPLE", "x"} {
		check(t, s, rows, search.Condition{User: user})
	}
}

func counts(t *testing.T, open func() search.Store) {
	rnd := rand.New(rand.NewPCG(9, 10))
	rows := Rows(rnd, 5, 50_000)
	s := open()
	for chunk := range slices.Chunk(rows, 3000) {
		extend(t, s, log, chunk)
	}
	for range 40 {
		c := Conditions(rnd, rows)
		want := uint64(0)
		for i := range rows {
			if rows[i].Meets(c) {
				want++
			}
		}
		got, _, err := s.Count(t.Context(), log, c)
		if !errors.Is(err, search.ErrDoubtful) && (err != nil || got != want) {
			t.Errorf("%+v: counted %d, %v; want %d", c, got, err, want)
		}
	}
}

func apart(t *testing.T, open func() search.Store) {
	rnd := rand.New(rand.NewPCG(11, 12))
	rows, others := Rows(rnd, 0, 50), Rows(rnd, 0, 80)
	s := open()
	extend(t, s, log, rows)
	extend(t, s, audit.ControlLog, others)
	if err := s.Reset(t.Context(), audit.ControlLog); err != nil {
		t.Fatal(err)
	}
	check(t, s, rows, search.Condition{})
	if state, err := s.State(t.Context(), audit.ControlLog); err != nil || state != (search.State{}) {
		t.Errorf("state %+v, %v after a reset, want none", state, err)
	}
}

func forget(t *testing.T, open func() search.Store) {
	rnd := rand.New(rand.NewPCG(13, 14))
	rows := Rows(rnd, 0, 9000)
	s := open()
	extend(t, s, log, rows)
	for _, before := range []uint64{10, 5, 5000, 8999, 9000} {
		if err := s.Forget(t.Context(), log, before); err != nil {
			t.Fatal(err)
		}
		left := rows[max(before, 10):]
		if before == 5 {
			left = rows[10:]
		}
		check(t, s, left, search.Condition{})
		check(t, s, left, search.Condition{App: rows[8999].App})
		state, err := s.State(t.Context(), log)
		if want := max(before, 10); err != nil || state.First != want || state.Next != 9000 {
			t.Errorf("state %+v, %v after forgetting what is before %d", state, err, before)
		}
		if n, _, err := s.Count(t.Context(), log, search.Condition{}); err != nil || n != uint64(len(left)) {
			t.Errorf("counted %d, %v; want %d", n, err, len(left))
		}
	}
	more := Rows(rnd, 9000, 10)
	extend(t, s, log, more)
	check(t, s, more, search.Condition{})
}

func anew(t *testing.T, open func() search.Store) {
	rows := Rows(rand.New(rand.NewPCG(15, 16)), 0, 50)
	s := open()
	for name, again := range map[string]func(context.Context) error{
		"reset":   func(ctx context.Context) error { return s.Reset(ctx, log) },
		"discard": s.Discard,
	} {
		extend(t, s, log, rows)
		if err := again(t.Context()); err != nil {
			t.Fatal(err)
		}
		if state, err := s.State(t.Context(), log); err != nil || state != (search.State{}) {
			t.Errorf("state %+v, %v after %s, want none", state, err, name)
		}
		check(t, s, nil, search.Condition{})
	}
	extend(t, s, log, rows)
	check(t, s, rows, search.Condition{})
}

// check asks for everything that meets a condition, in pages, and for the first few.
func check(t *testing.T, s search.Store, rows []search.Row, c search.Condition) {
	t.Helper()
	var want []uint64
	for i := range rows {
		if rows[i].Meets(c) {
			want = append(want, rows[i].Seq)
		}
	}
	if c.Newest {
		slices.Reverse(want)
	}
	for _, limit := range []int{3, 100_000} {
		hits, _, err := s.Find(t.Context(), log, c, limit)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if err := covers(hits, want, rows, limit, c.Newest); err != nil {
			t.Errorf("%+v, limit %d: %v", c, limit, err)
		}
	}
}

// covers reports what of want, up to the last hit, is not among hits, and what else is wrong with them.
func covers(hits []search.Hit, want []uint64, rows []search.Row, limit int, newest bool) error {
	order := func(a, b uint64) int {
		if newest {
			return cmp.Compare(b, a)
		}
		return cmp.Compare(a, b)
	}
	found := map[uint64]bool{}
	for i, h := range hits {
		if i > 0 && order(hits[i-1].Seq, h.Seq) >= 0 {
			return fmt.Errorf("seq %d comes after %d", h.Seq, hits[i-1].Seq)
		}
		at, known := slices.BinarySearchFunc(rows, h.Seq, func(r search.Row, seq uint64) int { return cmp.Compare(r.Seq, seq) })
		if !known || rows[at].Position != h.Position {
			return fmt.Errorf("seq %d is said to be at %+v", h.Seq, h.Position)
		}
		found[h.Seq] = true
	}
	if len(hits) > limit {
		return fmt.Errorf("%d hits", len(hits))
	}
	for _, seq := range want {
		if len(hits) == limit && order(seq, hits[len(hits)-1].Seq) > 0 {
			return nil
		}
		if !found[seq] {
			return fmt.Errorf("seq %d is missing", seq)
		}
	}
	return nil
}

// Rows are random rows that resemble those of a gateway.
func Rows(rnd *rand.Rand, first uint64, n int) []search.Row {
	pick := func(all ...string) string { return all[rnd.IntN(len(all))] }
	rows := make([]search.Row, n)
	at := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	for i := range rows {
		at = at.Add(time.Duration(rnd.IntN(1000)-50) * time.Millisecond)
		person := rnd.IntN(20)
		rows[i] = search.Row{
			Seq: first + uint64(i), Position: audit.Position{Segment: 1 + uint64(i)/100, Offset: int64(4096 * (1 + i%100)), Line: i % 3},
			Time: at, Type: pick("decision", "outcome", "control"), Code: pick("", "sign_in", "reload"),
			App: pick("", "payroll", "wiki", "crm"), Effect: pick("", "allow", "allow", "allow", "deny", "reject"),
			Reason: pick("", "policy", "step_up"), Method: pick("", "GET", "GET", "POST", "FROBNICATE"),
			Policy: pick("", "sha256:aa", "sha256:bb"), Boot: fmt.Sprint("boot-", i/1000),
			RequestID: pick("", fmt.Sprintf("0192d5b0-%04x-7abc-8def-0123456789ab", rnd.IntN(400)), fmt.Sprint("r", rnd.IntN(400))),
			Session:   pick("", fmt.Sprint("session-", person)),
		}
		if rnd.IntN(3) > 0 {
			rows[i].Subject, rows[i].Email = fmt.Sprint("corp|", person), fmt.Sprintf("P%d@corp.example", person)
		} else if rnd.IntN(2) == 0 {
			rows[i].Actor, rows[i].ActorName = fmt.Sprint("uid:", person), fmt.Sprint("p", person, "@corp.example")
		}
	}
	return rows
}

// Conditions is a random condition that some of the rows are likely to meet.
func Conditions(rnd *rand.Rand, rows []search.Row) search.Condition {
	like, c := rows[rnd.IntN(len(rows))], search.Condition{Newest: rnd.IntN(2) == 0}
	for i, set := range []func(){
		func() { c.Type = like.Type }, func() { c.Code = like.Code }, func() { c.App = like.App }, func() { c.Effect = like.Effect },
		func() { c.Reason = like.Reason }, func() { c.Method = like.Method }, func() { c.Policy = like.Policy }, func() { c.Boot = like.Boot },
		func() { c.RequestID = like.RequestID }, func() { c.Session = like.Session },
		func() { c.User = strings.ToUpper(like.Email) }, func() { c.User = like.Actor }, func() { c.User = "nobody" },
		func() { c.From = like.Time }, func() { c.To = like.Time.Add(time.Hour) }, func() { c.To = like.Time },
		func() { c.FromSeq = like.Seq }, func() { c.ToSeq = like.Seq + uint64(rnd.IntN(1000)) },
	} {
		if odds := 6 + i/12*4; rnd.IntN(odds) == 0 {
			set()
		}
	}
	return c
}
