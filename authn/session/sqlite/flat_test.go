package sqlite

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/authn/session"
)

// TestNoCallReadsEverySession asks SQLite how it would answer each way to select, and expects an index: time does not
// grow with the sessions of others. Lists of everything, of what is old and of a host go through the sessions in the
// order of their ids, once for all pages together.
func TestNoCallReadsEverySession(t *testing.T) {
	s := openInside(t)
	noon := time.Unix(1e9, 0)
	for name, c := range map[string]struct {
		m          session.Match
		list, ends string // a part of the plan
	}{
		"id":               {session.Match{ID: "a"}, "sqlite_autoindex_session_1 (id=?)", "sqlite_autoindex_session_1 (id=?)"},
		"subject":          {session.Match{Subject: "a"}, "session_subject (subject=? AND id>?)", "session_subject (subject=?)"},
		"another":          {session.Match{Subject: "a", Except: "b", UserAgent: "c"}, "session_subject (subject=? AND id>?)", "session_subject (subject=?)"},
		"email":            {session.Match{Email: "a"}, "session_email (email=? AND id>?)", "session_email (email=?)"},
		"provider":         {session.Match{Provider: "a"}, "session_provider (provider=? AND id>?)", "session_provider (provider=?)"},
		"provider session": {session.Match{ProviderSession: "a"}, "session_provider_session (provider_session=? AND id>?)", "session_provider_session (provider_session=?)"},
		"sid of provider":  {session.Match{Provider: "p", ProviderSession: "a"}, "session_provider_session (provider_session=?", "session_provider_session (provider_session=?"},
		"sid of person":    {session.Match{Subject: "p", ProviderSession: "a"}, "session_provider_session (provider_session=?", "session_provider_session (provider_session=?"},
		"host":             {session.Match{Host: "a"}, "", "handle_host (host=?)"},
		"host of a person": {session.Match{Host: "a", Subject: "b"}, "session_subject (subject=? AND id>?)", "session_subject (subject=?)"},
		"created":          {session.Match{CreatedBefore: noon}, "", "session_created (created<?)"},
		"seen":             {session.Match{SeenBefore: noon}, "", "session_seen (seen<?)"},
	} {
		where, args := condition(c.m)
		if got := plan(t, s, listing(where), append(append([]any{""}, args...), 500)...); !strings.Contains(got, c.list) || strings.Contains(got, "TEMP B-TREE FOR ORDER BY") {
			t.Errorf("List by %s: %s", name, got)
		}
		text, args := choosing(c.m)
		if got := plan(t, s, text, append(args, 500)...); !strings.Contains(got, c.ends) || strings.Contains(got, "SCAN session") || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("Delete by %s: %s", name, got)
		}
	}
}

func plan(t *testing.T, s *Store, text string, args ...any) string {
	t.Helper()
	rows, err := s.read.Query("EXPLAIN QUERY PLAN "+text, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var id, parent, unused int
		var line string
		if err := rows.Scan(&id, &parent, &unused, &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return fmt.Sprint(strings.Join(lines, "; "), errorText(rows.Err()))
}
