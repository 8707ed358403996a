package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
)

var begin = time.Date(2026, 8, 1, 8, 0, 0, 0, time.UTC)

// book writes records as the gateway would.
type book struct {
	entries []audit.Entry
	seq     map[string]uint64
}

func (b *book) add(at time.Time, r audit.Record) {
	r.V, r.Log, r.Time, r.Replica, r.Boot = 1, audit.ControlLog, at.UTC(), "gw1", audit.Boot{ID: "b", N: 1}
	switch r.Type {
	case audit.TypeDecision, audit.TypeOutcome, audit.TypeReevaluated, audit.TypeWindow:
		r.Log = audit.DecisionLog
	}
	if b.seq == nil {
		b.seq = map[string]uint64{}
	}
	r.Seq = b.seq[r.Log]
	b.seq[r.Log]++
	r.ID = fmt.Sprintf("00000000-0000-7000-8000-%s%011d", map[string]string{audit.DecisionLog: "d", audit.ControlLog: "c"}[r.Log], r.Seq)
	raw, err := json.Marshal(&r)
	if err != nil {
		panic(err)
	}
	b.entries = append(b.entries, audit.Entry{Raw: raw})
}

func (b *book) records() iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for _, e := range b.entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// someone is a person of the tests.
type someone struct {
	id, email string
	groups    []string
}

func (s someone) input() json.RawMessage {
	subject := map[string]any{"type": "user", "id": s.id, "email": s.email, "email_verified": s.email != "", "groups": append([]string{}, s.groups...)}
	if s.id == "" {
		subject = map[string]any{"type": "anonymous", "groups": []string{}}
	}
	return mustJSON(map[string]any{"subject": subject})
}

func mustJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// decide records that a rule decided.
func (b *book) decide(at time.Time, who someone, app, rule string, effect audit.Effect) {
	reason := "policy"
	if effect == audit.Allow {
		reason = "allow"
	}
	b.add(at, audit.Record{Type: audit.TypeDecision, App: app, Effect: effect, Reason: reason, Input: who.input(), Policy: audit.Policy{Digest: "sha256:0"},
		Decision: mustJSON(map[string]any{"allow": effect == audit.Allow, "reasons": []any{map[string]any{"code": reason, "rule": rule}}})})
}

func (b *book) control(at time.Time, code, reason string, by *audit.Actor, detail any) {
	r := audit.Record{Type: audit.TypeControl, Code: code, Reason: reason, Actor: by}
	if detail != nil {
		r.Detail = mustJSON(detail)
	}
	b.add(at, r)
}

var (
	ada   = someone{"corp|ada", "ada@corp.example", []string{"finance", "staff"}}
	bob   = someone{"corp|bob", "bob@corp.example", []string{"staff"}}
	carol = someone{"mail|carol@partner.example", "carol@partner.example", nil}
	eve   = someone{"corp|eve", "", []string{"interns"}}
	none  = someone{}

	operator = &audit.Actor{Kind: "os", ID: "uid:1000", Name: "olga"}
)

// options are the configuration of the tests, at the first of November.
func options(disclose bool) Options {
	return Options{From: begin, To: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Disclose: disclose, Gateway: "corp.example", Program: "sallyport test",
		People:      []Person{{ID: "corp|dan", Email: "dan@corp.example", Verified: true, Groups: []string{"staff"}}},
		Checkpoints: []Checkpoint{{Log: "decision", Origin: "corp.example/audit/decision", Size: 1234, Root: "AAAA", Signed: "corp.example/audit/decision\n1234\nAAAA\n\n— x BBBB\n"}},
		Apps: []App{
			{Name: "wiki", Title: "Wiki", Rules: []Rule{{ID: "access/1", Groups: []string{"staff"}, Controls: []string{"SOC2:CC6.1"}}, {ID: "partners", Domains: []string{"partner.example"}}}},
			{Name: "payroll", Controls: []string{"SOC2:CC6.1", "PCI:7.2"}, Rules: []Rule{{ID: "reports", Groups: []string{"audit"}, Conditions: []string{"GET", "/reports/"}},
				{ID: "main", Groups: []string{"finance"}, Emails: []string{"Bob@corp.example"}, Conditions: []string{"MFA"}, Controls: []string{"ISO27001:A.5.15"}}}},
			{Name: "site", Rules: []Rule{{ID: "open", Public: true}}},
			{Name: "old", Rules: []Rule{{ID: "access/1", Groups: []string{"retired"}}}},
			{Name: "own", Own: true},
		}}
}

// story is a quarter at a small company.
func story() *book {
	b := &book{}
	day := func(n int) time.Time { return begin.AddDate(0, 0, n) }
	b.control(day(0), "started", "", &audit.Actor{Kind: "gateway", ID: "pid:1"}, map[string]any{"version": "1"})
	b.control(day(0), "sign_in", "", &audit.Actor{Kind: "user", ID: ada.id, Name: ada.email}, nil)
	b.control(day(0), "sign_in_failed", "state_mismatch", nil, map[string]any{"provider": "corp"})
	for i := range 60 {
		b.decide(day(i), ada, "wiki", "access/1", audit.Allow)
		if i%3 == 0 {
			b.decide(day(i).Add(time.Hour), ada, "payroll", "main", audit.Allow)
		}
		if i%10 == 0 {
			b.decide(day(i).Add(2*time.Hour), eve, "payroll", "main", audit.Deny)
		}
	}
	b.decide(day(0), bob, "wiki", "access/1", audit.Allow) // more than 90 days before the end
	b.decide(day(20), carol, "wiki", "partners", audit.Allow)
	b.decide(day(21), none, "site", "open", audit.Allow)
	b.decide(day(22), ada, "site", "open", audit.Allow)
	b.decide(day(23), bob, "gone", "access/1", audit.Allow)
	b.add(day(24), audit.Record{Type: audit.TypeDecision, Effect: audit.Reject, Reason: "bad_path", Detail: mustJSON(map[string]any{"target": "/x"})})
	b.add(day(24), audit.Record{Type: audit.TypeOutcome, Outcome: &audit.Outcome{Of: "x", Status: 200}})
	b.add(day(25), audit.Record{Type: audit.TypeWindow, Detail: mustJSON(map[string]any{"rows": []any{map[string]any{"reason": "rate_limit", "count": 5}}, "other": 2})})
	b.control(day(26), "config_changed", "", nil, map[string]any{"policy": "sha256:1", "before": map[string]any{"policy": "sha256:0"}, "why": "sighup by olga@corp.example"})
	b.control(day(27), "config_changed", "", operator, map[string]any{"policy": "sha256:1", "before": map[string]any{"policy": "sha256:1"}})
	b.control(day(28), "config_refused", "", operator, map[string]any{"error": "line 3"})
	b.control(day(29), "log_read", "", operator, nil)
	b.add(day(30), audit.Record{Type: audit.TypeRecovered, Code: audit.CodeResumed, Detail: mustJSON(map[string]any{"cause": "no space left"})})
	b.control(day(31), "started", "", nil, nil)
	b.control(day(40), CodeReviewed, "", operator, Review{Person: ada.id, App: "payroll", Decision: "later", Note: "ask finance"})
	b.control(day(41), CodeReviewed, "", &audit.Actor{Kind: "user", ID: bob.id, Name: bob.email}, Review{Person: ada.id, App: "payroll", Decision: "keep", Note: "asked ada@corp.example at 10.3.3.3"})
	b.control(day(42), CodeReviewed, "", operator, Review{Person: "corp|left", App: "wiki", Decision: "revoke"})
	b.decide(options(false).To, ada, "wiki", "access/1", audit.Deny) // after the period
	return b
}

func build(t testing.TB, kind Kind, b *book, o Options) *Report {
	t.Helper()
	r, err := Build(t.Context(), kind, b.records(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func written(t testing.TB, r *Report, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b, format); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(b.String(), "\r\n", "\n")
}
