package main

import (
	"context"
	"errors"
	"iter"
	"slices"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/audit/search"
	"sallyport/audit/search/sqlite"
	"sallyport/gateway/config"
)

// query yields what a filter chooses, in the order of the log: with a limit, the newest of it. The searchable copy says
// where to look, if there is one and it knows more than that everything is to be read; the results are the log's either way.
func (in *invocation) query(log *audit.Reader, places config.Places, name string, chosen *filter.Filter, limit int) iter.Seq2[audit.Entry, error] {
	copied := in.openCopy(places)
	if copied == nil || !narrows(chosen) {
		return func(yield func(audit.Entry, error) bool) {
			if copied != nil {
				copied.Close()
			}
			scan(in.ctx, log, chosen, limit)(yield)
		}
	}
	return func(yield func(audit.Entry, error) bool) {
		defer copied.Close()
		found := copied.Query(in.ctx, name, log, search.Query{Where: chosen, Newest: limit > 0, Limit: limit})
		if limit > 0 {
			found = reversed(found)
		}
		for entry, err := range found {
			if !yield(entry, err) {
				return
			}
		}
	}
}

// narrows reports whether the copy can tell which records a filter may choose, other than most of them.
func narrows(chosen *filter.Filter) bool {
	b := chosen.Bounds()
	if chosen.Exact() || b.User != "" || !b.From.IsZero() || !b.To.IsZero() || b.FromSeq > 0 || b.ToSeq > 0 {
		return true
	}
	for _, field := range []filter.Field{"app", "reason", "request_id", "session", "code", "subject", "email", "actor", "actor_name"} {
		if b.Equal[field] != "" {
			return true
		}
	}
	return false
}

// scan reads the log from end to end, and keeps the newest so many where there is a limit.
func scan(ctx context.Context, log *audit.Reader, chosen *filter.Filter, limit int) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		var newest []audit.Entry
		for entry, err := range chosenFrom(ctx, log, chosen, 0) {
			if err == nil && limit > 0 {
				if newest = append(newest, entry); len(newest) > 2*limit {
					newest = append(newest[:0], newest[len(newest)-limit:]...)
				}
				continue
			}
			if !decoded(entry, err, yield) || err != nil {
				return
			}
		}
		for _, entry := range newest[max(0, len(newest)-limit):] {
			if !decoded(entry, nil, yield) {
				return
			}
		}
	}
}

// decoded yields an entry with its record.
func decoded(entry audit.Entry, err error, yield func(audit.Entry, error) bool) bool {
	if err == nil {
		entry.Record, err = audit.DecodeRecord(entry.Raw)
	}
	return yield(entry, err)
}

// openCopy opens the searchable copy that the gateway keeps; nil when there is none, or it cannot be used from here.
func (in *invocation) openCopy(places config.Places) *search.Copy {
	store, err := sqlite.OpenReading(in.ctx, places.SearchDir())
	if err != nil {
		return nil // there is none, or it is not to be read: then the log is
	}
	return search.New(store)
}

// reversed turns a few results around.
func reversed(found iter.Seq2[audit.Entry, error]) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		var entries []audit.Entry
		for entry, err := range found {
			if err != nil {
				yield(entry, err)
				return
			}
			entries = append(entries, entry)
		}
		for _, entry := range slices.Backward(entries) {
			if !yield(entry, nil) {
				return
			}
		}
	}
}

// reindexAlone builds the copy anew when no gateway runs that would.
func reindexAlone(ctx context.Context, places config.Places) (err error) {
	if err := mayWrite(places.Audit.Dir); err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, places.SearchDir())
	if err != nil {
		return err
	}
	copied := search.New(store)
	defer func() { err = errors.Join(err, copied.Close()) }()
	for _, log := range logsOf("both") {
		r, err := audit.OpenReader(places.Audit.Dir, log)
		if err != nil {
			return err
		}
		_, err = copied.Rebuild(ctx, log, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}
