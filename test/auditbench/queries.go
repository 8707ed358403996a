package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/audit/search"
	"sallyport/audit/search/sqlite"
)

// measureQueries makes the log long, copies it, and asks for what people ask for.
func measureQueries(ctx context.Context, p *place, records int) (err error) {
	if err := p.fill(ctx, records); err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, filepath.Join(p.dir, "search"))
	if err != nil {
		return err
	}
	copied := search.New(store)
	defer copied.Close()
	log, err := audit.OpenReader(p.audit(), audit.DecisionLog)
	if err != nil {
		return err
	}
	defer log.Close()
	began := time.Now()
	if _, err := copied.Index(ctx, audit.DecisionLog, log, 0); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	size, err := copied.Size(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("searching: %d records, copied at %.0f/s, the copy has %.2f GB\n", records, float64(records)/took, float64(size)/1e9)
	fmt.Printf("%-72s %8s %10s %10s\n", "newest 50 that meet", "found", "median ms", "most ms")
	var sample audit.Entry
	if sample, err = log.Get(ctx, uint64(records/2)); err != nil {
		return err
	}
	for _, where := range []string{
		`user == "person.0500@` + domain + `"`,
		`user == "person.0500@` + domain + `" && effect == "deny"`,
		`app == "app-07" && time >= ` + filter.Quote(sample.Record.Time.Format(time.RFC3339)),
		`request_id == ` + filter.Quote(sample.Record.RequestID),
		`session == ` + filter.Quote(sample.Record.Session),
		`reason == "policy" && app == "app-03"`,
		`user == "person.0500@` + domain + `" && path.startsWith("/pages/2026/plan-1")`,
		`effect == "reject"`,
	} {
		if err := measureQuery(ctx, copied, log, where); err != nil {
			return err
		}
	}
	return nil
}

func measureQuery(ctx context.Context, copied *search.Copy, log *audit.Reader, where string) error {
	chosen, err := filter.Compile(where)
	if err != nil {
		return err
	}
	var times []time.Duration
	found := 0
	for range 11 {
		found = 0
		began := time.Now()
		for _, err := range copied.Query(ctx, audit.DecisionLog, log, search.Query{Where: chosen, Newest: true, Limit: 50}) {
			if err != nil {
				return err
			}
			found++
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	fmt.Fprintf(os.Stdout, "%-72s %8d %10.1f %10.1f\n", where, found, ms(times[len(times)/2]), ms(times[len(times)-1]))
	return nil
}
