package report

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sallyport/audit"
)

// random draws a log of decisions and reviews, and the configuration they were made under.
func random(r *rapid.T) (*book, Options) {
	groups := []string{"a", "b", "c", "d"}
	apps := []string{"x", "y", "z"}
	o := Options{To: begin.AddDate(0, 0, 200), Days: rapid.IntRange(1, 120).Draw(r, "days")}
	if rapid.Bool().Draw(r, "bounded") {
		o.From = begin.AddDate(0, 0, rapid.IntRange(0, 150).Draw(r, "from"))
	}
	for _, name := range apps[:2] {
		a := App{Name: name, Controls: []string{"K:" + name}}
		for i := range rapid.IntRange(0, 3).Draw(r, "rules") {
			a.Rules = append(a.Rules, Rule{ID: fmt.Sprintf("access/%d", i+1), Groups: rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 0, 2, rapid.ID).Draw(r, "groups")})
		}
		o.Apps = append(o.Apps, a)
	}
	b := &book{}
	for range rapid.IntRange(0, 60).Draw(r, "records") {
		at := begin.AddDate(0, 0, rapid.IntRange(0, 220).Draw(r, "day"))
		who := someone{id: rapid.SampledFrom([]string{"", "p|1", "p|2", "p|3"}).Draw(r, "who"), groups: rapid.SliceOfNDistinct(rapid.SampledFrom(groups), 0, 3, rapid.ID).Draw(r, "in")}
		slices.Sort(who.groups)
		b.decide(at, who, rapid.SampledFrom(apps).Draw(r, "app"), fmt.Sprintf("access/%d", rapid.IntRange(1, 4).Draw(r, "rule")),
			rapid.SampledFrom([]audit.Effect{audit.Allow, audit.Deny}).Draw(r, "effect"))
	}
	return b, o
}

// flat is a decision as a naive reader sees it.
type flat struct {
	at             time.Time
	who, app, rule string
	groups         []string
	effect         audit.Effect
}

func flatten(b *book, o Options) (list []flat) {
	for _, e := range b.entries {
		var r audit.Record
		if err := json.Unmarshal(e.Raw, &r); err != nil {
			panic(err)
		}
		var in struct {
			Subject struct {
				ID     string   `json:"id"`
				Groups []string `json:"groups"`
			} `json:"subject"`
		}
		var d struct {
			Reasons []struct {
				Rule string `json:"rule"`
			} `json:"reasons"`
		}
		if json.Unmarshal(r.Input, &in) != nil || json.Unmarshal(r.Decision, &d) != nil {
			panic("BUG: test record")
		}
		if r.Time.Before(o.From) || !r.Time.Before(o.To) {
			continue
		}
		list = append(list, flat{r.Time, in.Subject.ID, r.App, d.Reasons[0].Rule, in.Subject.Groups, r.Effect})
	}
	return list
}

func TestAccessReviewCountsWhatANaiveReaderCounts(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b, o := random(r)
		data := build(t, AccessReview, b, o).data.(AccessReport)
		list := flatten(b, o)
		last := map[string][]string{} // groups
		for _, f := range list {
			last[f.who] = f.groups
		}
		seen := map[pair]bool{}
		for _, row := range data.Rows {
			seen[pair{row.Person, row.App}] = true
			var uses, denials uint64
			var used time.Time
			for _, f := range list {
				if f.who != row.Person || f.app != row.App {
					continue
				}
				late := !f.at.Before(o.To.AddDate(0, 0, -o.Days))
				switch {
				case f.effect == audit.Allow:
					used = latest(used, f.at)
					if late {
						uses++
					}
				case late:
					denials++
				}
			}
			if uses != row.Uses || denials != row.Denials || !used.Equal(row.LastUsed) {
				r.Fatalf("%+v, want %d uses, %d denials, last %v", row, uses, denials, used)
			}
		}
		for _, f := range list {
			if f.who != "" && !seen[pair{f.who, f.app}] {
				r.Fatalf("%s and %s are not there", f.who, f.app)
			}
		}
		for who, groups := range last {
			for _, a := range o.Apps {
				named := slices.ContainsFunc(a.Rules, func(rule Rule) bool {
					return slices.ContainsFunc(rule.Groups, func(g string) bool { return slices.Contains(groups, g) })
				})
				if who != "" && named && !seen[pair{who, a.Name}] {
					r.Fatalf("%s has access to %s and is not there", who, a.Name)
				}
			}
		}
	})
}

func TestUnusedIsWhatANaiveReaderDoesNotFind(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b, o := random(r)
		data := build(t, Unused, b, o).data.(UnusedReport)
		list := flatten(b, o)
		late := func(of func(flat) bool) bool {
			return slices.ContainsFunc(list, func(f flat) bool { return !f.at.Before(o.To.AddDate(0, 0, -o.Days)) && of(f) })
		}
		found := map[string]bool{}
		for _, row := range data.Rows {
			found[strings.Join([]string{row.What, row.App, row.Rule, row.Who}, " ")] = true
		}
		want := 0
		check := func(used bool, key string) {
			if !used {
				want++
			}
			if found[key] == used {
				r.Fatalf("%q: reported %v, used %v", key, found[key], used)
			}
		}
		for _, a := range o.Apps {
			if len(a.Rules) == 0 {
				continue
			}
			check(late(func(f flat) bool { return f.app == a.Name && f.effect == audit.Allow }), "app "+a.Name+"  ")
			for _, rule := range a.Rules {
				check(late(func(f flat) bool { return f.app == a.Name && f.rule == rule.ID }), "rule "+a.Name+" "+rule.ID+" ")
				for _, g := range rule.Groups {
					check(late(func(f flat) bool {
						return f.who != "" && f.app == a.Name && f.rule == rule.ID && f.effect == audit.Allow && slices.Contains(f.groups, g)
					}), "group "+a.Name+" "+rule.ID+" "+g)
				}
			}
		}
		people := 0
		for _, row := range data.Rows {
			if row.What != "person" {
				continue
			}
			people++
			if late(func(f flat) bool { return f.who == row.Who && f.app == row.App && f.effect == audit.Allow }) {
				r.Fatalf("%s used %s", row.Who, row.App)
			}
		}
		if len(data.Rows) != want+people {
			r.Fatalf("%d rows, want %d", len(data.Rows), want+people)
		}
	})
}

func TestSummaryAndControlsCountWhatANaiveReaderCounts(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		b, o := random(r)
		list := flatten(b, o)
		summary := build(t, Summary, b, o).data.(SummaryReport)
		count := func(of func(flat) bool) (n uint64) {
			for _, f := range list {
				if of(f) {
					n++
				}
			}
			return n
		}
		if summary.Totals.Decisions != uint64(len(list)) || summary.Totals.Denied != count(func(f flat) bool { return f.effect == audit.Deny }) {
			r.Fatalf("totals %+v of %d", summary.Totals, len(list))
		}
		var bars Tally
		for _, b := range summary.Activity {
			bars.Allowed += b.Allowed
			bars.Denied += b.Denied
		}
		if bars != summary.Totals.Tally {
			r.Fatalf("bars hold %+v, not %+v", bars, summary.Totals.Tally)
		}
		for _, a := range summary.Apps {
			people := map[string]bool{}
			for _, f := range list {
				if f.app == a.App && f.who != "" {
					people[f.who] = true
				}
			}
			if a.Allowed != count(func(f flat) bool { return f.app == a.App && f.effect == audit.Allow }) || a.People != len(people) {
				r.Fatalf("app %+v", a)
			}
		}
		for _, row := range build(t, Controls, b, o).data.(ControlsReport).Rows {
			if row.Rule == "" {
				continue
			}
			if n := count(func(f flat) bool { return f.app == row.App && f.rule == row.Rule }); row.Records != n || len(row.Samples) != min(int(n), 5) {
				r.Fatalf("control %+v, want %d records", row, n)
			}
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	x := &book{}
	for i := range 20_000 {
		who := someone{id: fmt.Sprintf("corp|%d", i%500), email: fmt.Sprintf("p%d@corp.example", i%500)}
		for g := range 40 {
			who.groups = append(who.groups, fmt.Sprintf("group-%02d", g))
		}
		x.decide(begin.Add(time.Duration(i)*time.Minute), who, []string{"wiki", "payroll"}[i%2], "access/1", audit.Allow)
	}
	for _, kind := range Kinds() {
		b.Run(string(kind), func(b *testing.B) {
			for b.Loop() {
				build(b, kind, x, options(false))
			}
			b.ReportMetric(float64(len(x.entries)*b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
