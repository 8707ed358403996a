package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

// TestStateOfTheFirstSchemaLivesOn signs in, moves what there is into a file as the first schema had it, and opens that.
func TestStateOfTheFirstSchemaLivesOn(t *testing.T) {
	now := openInside(t)
	k := keeperInside(t, now)
	handle, s, err := k.SignIn(t.Context(), session.NewSession{Identity: sessiontest.Entry(1).Identity, UserAgent: "Browser/1.0"})
	if err != nil {
		t.Fatal(err)
	}
	_, bare, err := k.SignIn(t.Context(), session.NewSession{Identity: sessiontest.Entry(2).Identity})
	if err != nil {
		t.Fatal(err)
	}
	sealed := k.Seal("session refresh token "+s.ID, []byte("the old token"))
	path := filepath.Join(t.TempDir(), "old.db")
	firstSchema(t, path, now, s.ID, sealed)

	old, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { old.Close() })
	k = keeperInside(t, old)
	got, err := k.SignedIn(t.Context(), handle)
	if err != nil || got.ID != s.ID || got.UserAgent != "Browser/1.0" {
		t.Fatalf("a handle of the first schema: %+v, %v", got, err)
	}
	if !got.Checked.Equal(s.Created) || !got.Raised.Equal(s.Created) || !got.Refreshable || got.Away != 0 || got.Bound != (session.Bound{}) {
		t.Errorf("what the first schema did not know: %+v", got)
	}
	secrets, version, err := k.Secrets(t.Context(), s.ID)
	if err != nil || version != 1 || secrets != (session.Secrets{RefreshToken: "the old token"}) {
		t.Errorf("the refresh token of the first schema: %q, version %d, %v", secrets.RefreshToken, version, err)
	}
	if _, err := k.Renew(t.Context(), s.ID, 1, session.Renewal{Identity: s.Identity, Secrets: session.Secrets{RefreshToken: "new", IDToken: "id"}}); err != nil {
		t.Errorf("renewing a session of the first schema: %v", err)
	}
	if secrets, _, err := k.Secrets(t.Context(), s.ID); err != nil || secrets != (session.Secrets{RefreshToken: "new", IDToken: "id"}) {
		t.Errorf("after it was renewed: %v", err)
	}
	if other, err := k.Current(t.Context(), bare.ID); err != nil || other.Refreshable {
		t.Errorf("a session of the first schema without a refresh token: %+v, %v", other, err)
	}
	if p, err := k.Person(t.Context(), s.Identity.ID()); err != nil || p.Disabled || p.Identity.Email != s.Identity.Email {
		t.Errorf("a person of the first schema: %+v, %v", p, err)
	}
}

func TestMigratedAndNewFilesHaveOneSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	firstSchema(t, path, openInside(t), "", "")
	old, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	for _, s := range []*Store{old, openInside(t)} {
		if problems := pragma(t, s, "integrity_check") + pragma(t, s, "foreign_key_check"); problems != "ok" {
			t.Errorf("the file is not sound: %s", problems)
		}
	}
}

func firstSchema(t *testing.T, path string, from *Store, withToken, sealed string) {
	t.Helper()
	if err := create(path); err != nil {
		t.Fatal(err)
	}
	db, err := connect(path, 1, writing)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := migrate(t.Context(), db, migrations[:1]); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`ATTACH '` + from.path + `' AS new`,
		`INSERT INTO sealing_key SELECT * FROM new.sealing_key`,
		`INSERT INTO session SELECT n, id, version, subject, email, provider, identity, NULL, user_agent, address, created, seen
			FROM new.session`,
		`INSERT INTO handle SELECT * FROM new.handle`,
		`DETACH new`,
	} {
		if _, err := db.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if _, err := db.Exec(`UPDATE session SET refresh = ? WHERE id = ?`, []byte(sealed), withToken); err != nil {
		t.Fatal(err)
	}
}

func pragma(t *testing.T, s *Store, name string) (all string) {
	t.Helper()
	rows, err := s.read.Query("SELECT * FROM pragma_" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		all += line
	}
	return all + errorText(rows.Err())
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func keeperInside(t testing.TB, s session.Store) *session.Keeper {
	t.Helper()
	k, err := session.NewKeeper(session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour}, s, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestExpiredHandlesAreBounded expires more handles than are remembered: the newest are.
func TestExpiredHandlesAreBounded(t *testing.T) {
	s := openInside(t)
	if _, err := s.write.Exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?)
		INSERT INTO past (hash, host, session, subject, created, seen, until)
		SELECT CAST('old ' || i AS BLOB), '', 'old', 'corp|1', 0, 0, ? FROM n`, session.MaxPast, time.Now().Add(time.Hour).UnixNano()); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), sessiontest.Entry(1), session.Hash{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Expire(t.Context(), session.Match{ID: sessiontest.Entry(1).ID}, time.Now(), 1); err != nil {
		t.Fatal(err)
	}
	var kept, oldest int
	if err := s.read.QueryRow(`SELECT count(*), count(*) FILTER (WHERE hash = CAST('old 1' AS BLOB)) FROM past`).Scan(&kept, &oldest); err != nil {
		t.Fatal(err)
	}
	if kept != session.MaxPast || oldest != 0 {
		t.Errorf("%d handles are remembered, of the oldest %d; want %d and 0", kept, oldest, session.MaxPast)
	}
	if _, err := s.Past(t.Context(), session.Hash{1}); errors.Is(err, session.ErrNoSession) {
		t.Error("the newest expired handle is forgotten")
	}
}
