package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/audit/decisions"
	"sallyport/policy"
	"sallyport/policy/review"
	"sallyport/policy/review/replay"
)

func TestSpans(t *testing.T) {
	now := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]span{
		"all":                    {},
		"24h":                    {from: now.Add(-24 * time.Hour)},
		"7d":                     {from: now.AddDate(0, 0, -7)},
		"2w":                     {from: now.AddDate(0, 0, -14)},
		"2026-11-01..2026-11-02": {from: now.AddDate(0, 0, -29).Truncate(24 * time.Hour), to: now.AddDate(0, 0, -28).Truncate(24 * time.Hour)},
		"2026-11-30T07:00..":     {from: now.Add(-time.Hour)},
		"..2026-11-30T08:00Z":    {to: now},
	} {
		if got, err := parseSpan(text, now); err != nil || !got.from.Equal(want.from) || !got.to.Equal(want.to) {
			t.Errorf("%s: got %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-24h", "0s", "99999999d", "2026-11-02..2026-11-01", "x..", "1.5d"} {
		if got, err := parseSpan(text, now); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// replayEngine is a policy of so many apps with four rules each; admins are whom the third rule lets in.
func replayEngine(t testing.TB, apps int, admins string) *policy.Engine {
	t.Helper()
	var list []policy.App
	for i := range apps {
		list = append(list, policy.App{Name: fmt.Sprintf("app-%02d", i), Sensitivity: "low", Access: policy.Access{
			{Paths: []string{"/admin/"}, Groups: []string{"admins"}, MFA: true},
			{Paths: []string{"/public/"}, Methods: []string{"GET"}, Public: true},
			{Methods: []string{"POST"}, Groups: []string{admins}, Emails: []string{"eve@partner.example"}},
			{Groups: []string{fmt.Sprintf("group-%02d", i)}},
		}})
	}
	b, err := policy.Build(policy.Config{Memo: true}, list)
	if err != nil {
		t.Fatal(err)
	}
	e, err := policy.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// replayInput is the n-th request, of which every so many are alike as far as the policies can see.
func replayInput(n, distinct int) *policy.Input {
	app, who := n%50, n%distinct
	in := &policy.Input{
		Subject: policy.Subject{
			Type: policy.TypeUser, ID: fmt.Sprintf("corp|%05d", who), Email: fmt.Sprintf("person-%05d@corp.example", who), EmailVerified: true,
			Claims: map[string]any{"department": "research"}, Authn: &policy.Authn{Provider: "corp", AMR: []string{"pwd", "otp"}, AgeS: policy.AgeOf(time.Hour), MFA: true},
			Session: &policy.Session{ID: fmt.Sprint("s-", who), AgeS: policy.AgeOf(time.Hour)},
		},
		Action:   policy.Action{Name: policy.ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: fmt.Sprintf("app-%02d", app), Sensitivity: "low", Host: "app.corp.example", Path: "/a/b", Segments: []string{"a", "b"}},
		Context: policy.Context{Client: policy.Client{IP: "192.0.2.7"}, Request: policy.Request{ID: fmt.Sprint("r-", n),
			UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"}},
	}
	for g := range 12 {
		in.Subject.Groups = append(in.Subject.Groups, fmt.Sprintf("group-%02d", (who+g)%50))
	}
	if n%7 == 0 {
		in.Action = policy.Action{Name: policy.ActionWrite, Method: "POST", Protocol: "HTTP/2.0"}
	}
	in.Context.SetTime(time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC).Add(time.Duration(n)*time.Millisecond), time.UTC)
	return in
}

// writeDecisions is a log of so many requests as a policy answers them.
func writeDecisions(t testing.TB, e *policy.Engine, n, distinct int) *audit.Reader {
	t.Helper()
	dir := t.TempDir()
	log, err := audit.Open(audit.Config{Dir: dir, Seal: true}, audit.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		in := replayInput(i, distinct)
		v := e.Decide(t.Context(), in)
		effect := audit.Deny
		if v.Allow {
			effect = audit.Allow
		}
		record := &audit.Record{
			Type: audit.TypeDecision, App: in.Resource.ID, Effect: effect, Reason: v.Reason, Document: in, Decision: v.JSON, Memo: v.Memo,
			Policy: audit.Policy{Digest: e.Digest(), Revision: e.Revision()},
		}
		add := log.Decisions().Post
		if i%4096 == 0 || i == n-1 {
			add = func(ctx context.Context, r *audit.Record) error { _, err := log.Decisions().Append(ctx, r); return err }
		}
		if err := add(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	reader, err := audit.OpenReader(dir, audit.DecisionLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	return reader
}

func replayLog(t testing.TB, log *audit.Reader, from, to *policy.Engine) *replay.Result {
	t.Helper()
	rec := recorded{source: replayed(decisions.Log(t.Context(), log, decisions.Query{}))}
	result, err := replay.Run(t.Context(), rec.config(t.Context(), from, to))
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestReplayOfALog(t *testing.T) {
	const n = 2_000
	from, to := replayEngine(t, 50, "group-07"), replayEngine(t, 50, "group-08")
	result := replayLog(t, writeDecisions(t, from, n, 100), from, to)
	if p := result.Parity; !p.Holds() || p.Checked != n || result.Totals.Replayed != n {
		t.Errorf("got %+v and %+v, want all %d the same", p, result.Totals, n)
	}
	gained := int64(0)
	for _, d := range result.Differences {
		if d.Change == review.Gained {
			gained += d.Requests
		}
		if len(d.People) != 1 || !strings.HasPrefix(d.People[0].Name, "person-") || len(d.Records) == 0 || d.Input.Action.Method != "POST" {
			t.Fatalf("got %+v", d)
		}
	}
	if gained == 0 || gained != result.Totals.Changed[review.Gained] {
		t.Errorf("%d gained, %v in all", gained, result.Totals.Changed)
	}
}

// cpuTime is what this process took of all processors, whatever else runs.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkReplay replays a log from its files: of requests that are mostly alike, and of ones that are all different.
func BenchmarkReplay(b *testing.B) {
	from, to := replayEngine(b, 50, "group-07"), replayEngine(b, 50, "group-08")
	for name, size := range map[string]struct{ n, distinct int }{"alike": {200_000, 500}, "distinct": {40_000, 40_000}} {
		b.Run(name, func(b *testing.B) {
			log := writeDecisions(b, from, size.n, size.distinct)
			distinct, began := int64(0), cpuTime(b)
			for b.Loop() {
				distinct += replayLog(b, log, from, to).Totals.Distinct
			}
			cpu := (cpuTime(b) - began).Seconds()
			b.ReportMetric(float64(size.n*b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(size.n*b.N)/cpu, "records/cpu-s")
			b.ReportMetric(float64(distinct)/cpu, "distinct/cpu-s")
		})
	}
}
