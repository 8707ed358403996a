package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

func openInside(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestOlderSchemaIsMigratedWholeOrNotAtAll(t *testing.T) {
	s := openInside(t)
	if err := s.Put(t.Context(), sessiontest.Entry(1), session.Hash{1}); err != nil {
		t.Fatal(err)
	}
	next := append(migrations[:len(migrations):len(migrations)],
		`ALTER TABLE session ADD COLUMN note TEXT NOT NULL DEFAULT 'none'`, `CREATE TABLE broken (`)
	if err := migrate(t.Context(), s.write, next); err == nil {
		t.Fatal("a broken migration succeeded")
	}
	if _, err := s.write.Exec(`SELECT note FROM session`); err == nil {
		t.Error("a broken migration left a column behind")
	}
	if err := migrate(t.Context(), s.write, next[:len(next)-1]); err != nil {
		t.Fatal(err)
	}
	var note string
	if err := s.write.QueryRow(`SELECT note FROM session`).Scan(&note); err != nil || note != "none" {
		t.Errorf("after a migration note = %q, %v", note, err)
	}
	if err := migrate(t.Context(), s.write, migrations); !errors.Is(err, ErrNewer) {
		t.Errorf("what the next version wrote: %v, want ErrNewer", err)
	}
}

func TestEveryCommitIsSynced(t *testing.T) {
	s := openInside(t)
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1"} {
		var got string
		if err := s.write.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("PRAGMA %s = %s, %v; want %s", pragma, got, err, want)
		}
	}
}

func TestFullDiskLetsNobodyInAndHeals(t *testing.T) {
	s := openInside(t)
	k, err := session.NewKeeper(session.Config{Idle: time.Hour, Absolute: time.Hour}, s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	signIn := func() error {
		_, _, err := k.SignIn(t.Context(), session.NewSession{Identity: sessiontest.Entry(1).Identity})
		return err
	}
	if _, err := s.write.Exec(`PRAGMA max_page_count = 1`); err != nil { // as many as there are: no more
		t.Fatal(err)
	}
	for i := 0; err == nil; i++ {
		if err = signIn(); i > 1000 {
			t.Fatal("the disk never fills")
		}
	}
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
		t.Errorf("sign-in on a full disk: %v; want ErrUnavailable that says full", err)
	}
	if _, err := s.write.Exec(`PRAGMA max_page_count = 1000000`); err != nil {
		t.Fatal(err)
	}
	if err := signIn(); err != nil {
		t.Errorf("sign-in after space was made: %v", err)
	}
}

func TestClosedStoreLetsNobodyIn(t *testing.T) {
	s := openInside(t)
	k, err := session.NewKeeper(session.Config{Idle: time.Hour, Absolute: time.Hour}, s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	handle, _, err := k.SignIn(t.Context(), session.NewSession{Identity: sessiontest.Entry(1).Identity})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.SignedIn(t.Context(), handle); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNoSession) {
		t.Errorf("SignedIn = %v, want ErrUnavailable", err)
	}
}

func TestSweepForgetsSpentIDsAndOldNews(t *testing.T) {
	s := openInside(t)
	for i := range 5 {
		if _, err := s.Spend(t.Context(), fmt.Sprint(i), time.Unix(int64(i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.write.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?)
		INSERT INTO change (session, host, reason) SELECT i, '', 'expired' FROM n`, keepNews+sweepBatch+500); err != nil {
		t.Fatal(err)
	}
	for _, more := range []bool{true, false} {
		if got, err := s.Sweep(t.Context(), time.Unix(3, 0)); err != nil || got != more {
			t.Errorf("Sweep = %v, %v; want %v", got, err, more)
		}
	}
	var spent, news int
	if err := s.read.QueryRow(`SELECT (SELECT count(*) FROM spent), (SELECT count(*) FROM change)`).Scan(&spent, &news); err != nil {
		t.Fatal(err)
	}
	if spent != 2 || news != keepNews {
		t.Errorf("%d spent ids and %d news left, want 2 and %d", spent, news, keepNews)
	}
	for after, lost := range map[session.Position]bool{
		"1":                                  true,  // older than what is kept
		session.Position(fmt.Sprint(1499)):   true,  // one too old
		session.Position(fmt.Sprint(1500)):   false, // the oldest that is kept follows
		session.Position(fmt.Sprint(999999)): true,  // of a file that has been replaced by an older one
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Watch(ctx, after, func(n session.News) {
			if n.Lost != lost || (lost && len(n.Changes) > 0) {
				t.Errorf("news after %s: lost %v with %d changes, want lost %v", after, n.Lost, len(n.Changes), lost)
			}
			cancel()
		})
		if err != nil {
			t.Error(err)
		}
	}
}
