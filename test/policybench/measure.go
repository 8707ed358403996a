package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"sallyport/policy"
	"sallyport/policy/review/diff"
	"sallyport/policy/review/directory"
	"sallyport/policy/review/lint"
	"sallyport/policy/review/matrix"
	"sallyport/policy/review/replay"
)

// measureUsual times a decision as programs usually ask OPA: through its rego package, with the input as JSON values and
// the data in its usual store.
func measureUsual(ctx context.Context) error {
	b, err := policy.Build(policy.Config{}, company(50))
	if err != nil {
		return err
	}
	var config, input map[string]any
	if err := json.Unmarshal(b.Data(), &config); err != nil {
		return err
	}
	in := request(employee(), "app-05", "GET", "/a/b", monday)
	if err := json.Unmarshal(in.AppendJSON(nil), &input); err != nil {
		return err
	}
	options := []func(*rego.Rego){
		rego.Query("data.sallyport.authz.decision"),
		rego.Store(inmem.NewFromObject(map[string]any{"sallyport": map[string]any{"config": config}})),
	}
	for _, s := range b.Sources() {
		options = append(options, rego.Module(s.Name, string(s.Content)))
	}
	query, err := rego.New(options...).PrepareForEval(ctx)
	if err != nil {
		return err
	}
	pace("OPA as usually called: a group admits", "", 100, func() { _, err = query.Eval(ctx, rego.EvalInput(input)) })
	return err
}

// measureDecisions times what a request costs when nothing is remembered: its input is dated, bounded, written for the
// record and evaluated.
func measureDecisions(ctx context.Context) error {
	e, err := engine(ctx, policy.Config{}, company(50))
	if err != nil {
		return err
	}
	subject := employee().Prepared()
	for _, c := range []struct{ what, app, path string }{
		{"decision: a group admits", "app-05", "/a/b"},
		{"decision: and the hours", "app-06", "/a/b"},
		{"decision: and the network", "app-07", "/a/b"},
		{"decision: and the age of the sign-in", "app-08", "/a/b"},
		{"decision: below a folder", "app-05", "/public/logo.svg"},
		{"decision: refused", "app-45", "/a/b"},
	} {
		in := request(subject, c.app, "GET", c.path, monday)
		var record []byte
		pace(c.what, "17 µs", 100, func() {
			in.Context.SetTime(monday, time.UTC)
			if err = in.Bound(); err != nil {
				return
			}
			record = in.AppendJSON(record[:0])
			e.Decide(ctx, in)
		})
	}
	return err
}

// measureMemo times a remembered answer, and counts how many of a day's are.
func measureMemo(ctx context.Context) error {
	e, err := engine(ctx, policy.Config{Memo: true}, company(50))
	if err != nil {
		return err
	}
	in := request(employee().Prepared(), "app-05", "GET", "/a/b", monday)
	e.Decide(ctx, in)
	if !e.Decide(ctx, in).Memo {
		return errors.New("the answer was not remembered")
	}
	pace("memo: projection and look-up", "0.5 µs", 2000, func() { e.Decide(ctx, in) })

	r := rand.New(rand.NewPCG(1, 2))
	if e, err = engine(ctx, policy.Config{Memo: true}, company(40)); err != nil {
		return err
	}
	for _, in := range traffic(r, staff(r, 400), 40, 100_000) {
		e.Decide(ctx, in)
	}
	s := e.MemoStats()
	show("memo: of 100,000 requests of 400 people for 40 apps", fmt.Sprintf("%.1f %% remembered", 100*float64(s.Hits)/100_000),
		fmt.Sprintf("%d entries, %d KiB", s.Entries, s.Bytes>>10))
	return nil
}

// measureCheck times the lint of 200 rules in Rego beside 200 access rules.
func measureCheck(ctx context.Context) error {
	apps := company(50)
	b, err := policy.Build(policy.Config{}, apps)
	if err != nil {
		return err
	}
	began := time.Now()
	sources := append(b.Sources(), policy.Source{Name: "operator/rules.rego", Content: regoRules(200)})
	report := lint.Check(ctx, lint.Subject{Sources: sources, Apps: apps})
	show("check: 200 rules in Rego and 200 access rules", fmt.Sprintf("%v, %d findings", time.Since(began).Round(time.Millisecond), len(report.Findings)), "2 s")
	return nil
}

func regoRules(n int) []byte {
	var b strings.Builder
	b.WriteString("package sallyport.app[\"app-05\"]\n\nimport data.sallyport.authz\n\ndefault decision := {\"allow\": false}\n")
	for i := range n {
		fmt.Fprintf(&b, "\nrule_%d if {\n\tinput.subject.type == \"user\"\n\t%q in input.subject.groups\n\tstartswith(input.resource.path, \"/part-%d/\")\n\tinput.context.hour < %d\n}\n", i, groupName(i%40), i, 1+i%23)
	}
	b.WriteString("\ndecision := authz.access if rule_0\n")
	return []byte(b.String())
}

// measureReplay replays records at hand: few kinds many times, so that telling them apart is most of the work, and as many
// kinds as records.
func measureReplay(ctx context.Context) error {
	from, to, err := change(ctx)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	records := recorded(ctx, from, traffic(r, staff(r, 400), 40, 500))
	const n = 500_000
	result, took, err := timed(ctx, replay.Config{From: from, To: to, Source: again(records, n)})
	if err != nil {
		return err
	}
	show("replay: records", fmt.Sprintf("%s, %d kinds", perSecond(n, took), result.Totals.Distinct), "200,000/s")

	inputs := traffic(r, staff(r, 400), 40, 20_000)
	for i, in := range inputs {
		in.Resource.Path = fmt.Sprintf("/document/%d", i)
	}
	if from, to, err = change(ctx); err != nil { // nothing remembered
		return err
	}
	fresh, _, err := change(ctx)
	if err != nil {
		return err
	}
	records = recorded(ctx, fresh, inputs)
	if result, took, err = timed(ctx, replay.Config{From: from, To: to, Source: again(records, len(records))}); err != nil {
		return err
	}
	show("replay: distinct decisions, each under two policies", fmt.Sprintf("%s, %d kinds", perSecond(int(result.Totals.Distinct), took), result.Totals.Distinct), "20,000/s")
	return nil
}

func timed(ctx context.Context, c replay.Config) (*replay.Result, time.Duration, error) {
	began := time.Now()
	result, err := replay.Run(ctx, c)
	if err == nil && result.Parity.Different > 0 {
		err = fmt.Errorf("%d of %d answers did not come out again", result.Parity.Different, result.Parity.Checked)
	}
	return result, time.Since(began), err
}

// change is a policy and its revision.
func change(ctx context.Context) (from, to *policy.Engine, err error) {
	apps := company(40)
	if from, err = engine(ctx, policy.Config{Memo: true}, apps); err != nil {
		return nil, nil, err
	}
	to, err = engine(ctx, policy.Config{Memo: true}, revised(apps))
	return from, to, err
}

// measureDiff makes the report of a change: recorded decisions replayed, and 400 people asked about 40 apps.
func measureDiff(ctx context.Context, n int) error {
	from, to, err := change(ctx)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	people := staff(r, 400)
	records := recorded(ctx, from, traffic(r, people, 40, 50_000))
	began := time.Now()
	m, err := matrix.Run(ctx, matrix.Config{From: from, To: to, People: people, Now: monday})
	if err != nil {
		return err
	}
	matrixTook := time.Since(began)
	result, replayTook, err := timed(ctx, replay.Config{From: from, To: to, Source: again(records, n)})
	if err != nil {
		return err
	}
	report, d := diff.New(diff.Policy{Name: "from"}, diff.Policy{Name: "to"}), &directory.Directory{People: people}
	report.AddMatrix(m, d, "directory.yaml", "UTC")
	report.AddReplay(result, "records", d)
	report.Finish()
	show(fmt.Sprintf("diff: %d recorded decisions and 400 × 40", n),
		fmt.Sprintf("%v: replay %v, matrix %v", time.Since(began).Round(time.Millisecond), replayTook.Round(time.Millisecond), matrixTook.Round(time.Millisecond)), "60 s")
	show("diff: findings", fmt.Sprintf("%d, complete: %v", len(report.Findings), report.Complete), "")
	return nil
}
