// Package sqlite keeps sessions in one SQLite file, for one gateway on one machine. More processes may open the file
// at once, on the same machine and not over a network file system: WAL needs shared memory.
//
// What is in the file, and what follows if somebody reads it: handles are there only as hashes, so nobody's session
// can be taken over with it. Refresh tokens are sealed, but the key that seals them, and the cookies and codes of
// sign-ins under way, is in the same file: sealing protects what is copied out of a table, not the file. The file and
// every backup of it are therefore a secret, created with mode 0600 and refused when others may read it.
//
// Every commit is synced (WAL with synchronous=FULL), so that what Put, Attach, Renew, Detach, Delete and Spend
// acknowledged survives a kill and a power cut.
package sqlite

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	driver "modernc.org/sqlite" // registers "sqlite" with database/sql

	"sallyport/authn"
	"sallyport/authn/session"
)

const (
	readers = 4 // connections that answer lookups; more only contend for the same file cache

	// keepNews is how many changes stay readable for watchers that fall behind; those who fall further start anew.
	keepNews = 1 << 16

	sweepBatch = 1000

	// busyTimeout is how long a writer waits for the writer of another process; SQLite counts milliseconds.
	busyTimeout = 4 * time.Second
)

// Store implements session.Store.
type Store struct {
	path  string
	write *sql.DB // one connection: writers queue here and not in SQLite's busy loop
	read  *sql.DB
	get   *sql.Stmt // on read
	spend *sql.Stmt // on write

	mu   sync.Mutex
	wake chan struct{} // closed and replaced when this process makes news
}

// Open opens the state file at path, and creates it with its first sealing key if there is none; its folder must
// exist. It refuses a file that others may read or write, that is not ours (ErrForeign), or that a newer version
// wrote (ErrNewer); an older one is migrated.
func Open(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening state file %q: %w", path, err)
	}
	if err := claim(path); err != nil {
		return nil, fmt.Errorf("opening state file: %w", err)
	}
	s := &Store{path: path, wake: make(chan struct{})}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening state file %s: %w", path, err), s.Close())
	}
	return s, nil
}

// claim creates the file durably, or checks that an existing one is ours alone. It never has the file itself open:
// closing it would drop the locks that SQLite holds on it elsewhere in this process (fcntl(2), "Advisory record
// locking").
func claim(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return create(path)
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if loose := info.Mode().Perm() & 0o077; loose != 0 {
		return fmt.Errorf("%s holds secrets and has mode %#o: run chmod 600 on it", path, info.Mode().Perm())
	}
	if err := unix.Access(path, unix.R_OK|unix.W_OK); err != nil {
		return &os.PathError{Op: "access", Path: path, Err: err}
	}
	return nil
}

// create makes an empty file under another name first. If somebody else creates the file meanwhile, theirs stays.
func create(path string) error {
	empty := path + ".new-" + rand.Text()
	f, err := os.OpenFile(empty, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(empty)
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Link(empty, path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (s *Store) open(ctx context.Context) (err error) {
	// 64 MB of cache, used only when much is written: ending 500 of 200,000 sessions takes half the time it takes with 8.
	if s.write, err = connect(s.path, 1, writing, "synchronous(FULL)", "foreign_keys(ON)", "cache_size(-64000)",
		"journal_size_limit(67108864)"); err != nil {
		return err
	}
	if err := migrate(ctx, s.write, migrations); err != nil {
		return err
	}
	if err := switchToWAL(ctx, s.write); err != nil {
		return fmt.Errorf("switching to WAL (can its folder be written to?): %w", err)
	}
	if s.read, err = connect(s.path, readers, reading, "query_only(ON)"); err != nil {
		return err
	}
	if s.get, err = s.read.PrepareContext(ctx, "SELECT "+columns+`, handle.host FROM handle
		JOIN session ON session.n = handle.session WHERE handle.hash = ?`); err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	if s.spend, err = s.write.PrepareContext(ctx, `INSERT INTO spent (id, until) VALUES (?, ?) ON CONFLICT DO NOTHING`); err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	return nil
}

// switchToWAL asks again for as long as another process is opening the file: SQLite's busy timeout does not cover it.
func switchToWAL(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, busyTimeout)
	defer cancel()
	for {
		_, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		if failed, ok := errors.AsType[*driver.Error](err); !ok || failed.Code()&0xff != sqliteBusy {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

const sqliteBusy = 5 // SQLITE_BUSY, https://www.sqlite.org/rescode.html

// How the transactions of a connection begin: a writer takes its lock at once, so that it never fails half way.
const (
	reading = "deferred"
	writing = "immediate"
)

func connect(path string, connections int, begin string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_txlock": {begin}}
	for _, p := range append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "cache_size(-8000)"}, pragmas...) {
		query.Add("_pragma", p)
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// Close ends the use of the file. Watches must have ended.
func (s *Store) Close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{s.get, s.spend} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	for _, db := range []*sql.DB{s.read, s.write} { // the last one to close folds the WAL into the file
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// SealingKeys implements session.Store.
func (s *Store) SealingKeys(ctx context.Context) ([]session.SealingKey, error) {
	var keys []session.SealingKey
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var err error
		if keys, err = sealingKeys(ctx, tx); err != nil || len(keys) > 0 {
			return err
		}
		secret := make([]byte, len(session.Secret{}))
		rand.Read(secret) // never fails
		if _, err := tx.ExecContext(ctx, `INSERT INTO sealing_key (secret, made) VALUES (?, ?)`,
			secret, time.Now().UnixNano()); err != nil {
			return fmt.Errorf("storing the first sealing key: %w", err)
		}
		keys, err = sealingKeys(ctx, tx)
		return err
	})
	return keys, err
}

func sealingKeys(ctx context.Context, tx *sql.Tx) ([]session.SealingKey, error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, secret, made FROM sealing_key ORDER BY id DESC`)
	if err != nil {
		return nil, fmt.Errorf("reading sealing keys: %w", err)
	}
	defer rows.Close()
	var keys []session.SealingKey
	for rows.Next() {
		var key session.SealingKey
		var secret []byte
		var made int64
		if err := rows.Scan(&key.ID, &secret, &made); err != nil {
			return nil, fmt.Errorf("reading sealing keys: %w", err)
		}
		copy(key.Secret[:], secret)
		key.Made = at(made)
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// Put implements session.Store.
func (s *Store) Put(ctx context.Context, e session.Entry, parent session.Hash) error {
	return s.transact(ctx, func(tx *sql.Tx) error { return insert(ctx, tx, e, parent) })
}

func insert(ctx context.Context, tx *sql.Tx, e session.Entry, parent session.Hash) error {
	identity, err := json.Marshal(e.Identity)
	if err != nil {
		return fmt.Errorf("storing session: %w", err)
	}
	bound, err := json.Marshal(e.Bound)
	if err != nil {
		return fmt.Errorf("storing session: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO session (id, version, subject, email, provider, provider_session, identity, secrets,
		refreshable, user_agent, address, bound, created, seen, checked, raised, away)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.ID, e.Version, e.Identity.ID(), e.Identity.Email, e.Identity.Provider, e.ProviderSession, string(identity), e.Secrets,
		e.Refreshable, e.UserAgent, e.Address, string(bound), e.Created.UnixNano(), e.Seen.UnixNano(), e.Checked.UnixNano(),
		e.Raised.UnixNano(), e.Away)
	if err != nil {
		return fmt.Errorf("storing session: %w", err)
	}
	if err := confirm(ctx, tx, e, identity); err != nil {
		return err
	}
	return attach(ctx, tx, e.ID, session.Handle{Hash: parent, Made: e.Created})
}

// Attach implements session.Store.
func (s *Store) Attach(ctx context.Context, id string, child session.Handle) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		if err := attach(ctx, tx, id, child); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM handle WHERE hash IN (SELECT hash FROM handle
			WHERE session = (SELECT n FROM session WHERE id = ?) AND host = ? ORDER BY made DESC, hash LIMIT -1 OFFSET ?)`,
			id, child.Host, session.MaxChildren)
		return err
	})
}

func attach(ctx context.Context, tx *sql.Tx, id string, h session.Handle) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO handle (hash, session, host, made) SELECT ?, n, ?, ? FROM session WHERE id = ?`,
		h.Hash[:], h.Host, h.Made.UnixNano(), id)
	if err != nil {
		return fmt.Errorf("storing handle: %w", err)
	}
	return oneOr(res, session.ErrNoSession)
}

// Renew implements session.Store.
func (s *Store) Renew(ctx context.Context, e session.Entry) error {
	return s.announce(ctx, func(tx *sql.Tx) error { return renew(ctx, tx, e) })
}

func renew(ctx context.Context, tx *sql.Tx, e session.Entry) error {
	identity, err := json.Marshal(e.Identity)
	if err != nil {
		return fmt.Errorf("renewing session: %w", err)
	}
	var known int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM session WHERE id = ?`, e.ID).Scan(&known); err != nil {
		return fmt.Errorf("renewing session: %w", err)
	}
	if known == 0 {
		return session.ErrNoSession
	}
	res, err := tx.ExecContext(ctx, `UPDATE session SET version = ?, subject = ?, email = ?, provider = ?, provider_session = ?,
		identity = ?, secrets = ?, refreshable = ?, checked = ? WHERE id = ? AND version = ?`, e.Version, e.Identity.ID(),
		e.Identity.Email, e.Identity.Provider, e.ProviderSession, string(identity), e.Secrets, e.Refreshable,
		e.Checked.UnixNano(), e.ID, e.Version-1)
	if err != nil {
		return fmt.Errorf("renewing session: %w", err)
	}
	if err := oneOr(res, session.ErrConflict); err != nil {
		return err
	}
	if err := confirm(ctx, tx, e, identity); err != nil {
		return err
	}
	return tell(ctx, tx, session.Change{SessionID: e.ID})
}

// Raise implements session.Store.
func (s *Store) Raise(ctx context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	return s.announce(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM handle WHERE hash = ? AND host = ''
			AND session = (SELECT n FROM session WHERE id = ?)`, old[:], e.ID)
		if err != nil {
			return fmt.Errorf("ending a handle: %w", err)
		}
		if err := oneOr(res, session.ErrNoSession); err != nil {
			return err
		}
		if err := renew(ctx, tx, e); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE session SET raised = ?, away = 0, seen = max(seen, ?) WHERE id = ?`,
			e.Raised.UnixNano(), e.Seen.UnixNano(), e.ID)
		if err != nil {
			return fmt.Errorf("raising session: %w", err)
		}
		return attach(ctx, tx, e.ID, parent)
	})
}

// Get implements session.Store.
func (s *Store) Get(ctx context.Context, handle session.Hash) (session.Entry, string, error) {
	var host string
	e, err := scan(s.get.QueryRowContext(ctx, handle[:]), &host)
	if errors.Is(err, sql.ErrNoRows) {
		return session.Entry{}, "", session.ErrNoSession
	}
	return e, host, err
}

// List implements session.Store.
func (s *Store) List(ctx context.Context, m session.Match, after string, limit int) ([]session.Entry, error) {
	where, args := condition(m)
	return query(ctx, s.read, listing(where), append(append([]any{after}, args...), limit)...)
}

func listing(where string) string {
	return "SELECT " + columns + ", " + hosts + " FROM session WHERE id > ? AND " + where + " ORDER BY id LIMIT ?"
}

// Count implements session.Store. The count runs over an index: its time grows, but is a few milliseconds at 200,000.
func (s *Store) Count(ctx context.Context) (int, error) {
	var n int
	if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM session`).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting sessions: %w", err)
	}
	return n, nil
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, seen map[string]time.Time) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		touch, err := tx.PrepareContext(ctx, `UPDATE session SET away = max(away, ?1 - seen), seen = ?1 WHERE id = ?2 AND seen < ?1`)
		if err != nil {
			return fmt.Errorf("writing last-seen times: %w", err)
		}
		defer touch.Close()
		for id, t := range seen {
			if _, err := touch.ExecContext(ctx, t.UnixNano(), id); err != nil {
				return fmt.Errorf("writing last-seen times: %w", err)
			}
		}
		return nil
	})
}

// Detach implements session.Store.
func (s *Store) Detach(ctx context.Context, id, host, reason string) error {
	return s.announce(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `DELETE FROM handle WHERE host = ? AND session = (SELECT n FROM session WHERE id = ?)`,
			host, id)
		if err != nil {
			return fmt.Errorf("ending handles: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, session.ErrNoSession)
		}
		return tell(ctx, tx, session.Change{SessionID: id, Host: host, Reason: reason})
	})
}

// Spend implements session.Store.
func (s *Store) Spend(ctx context.Context, id string, until time.Time) (bool, error) {
	sum := sha256.Sum256([]byte(id)) // so that any id takes the same room
	res, err := s.spend.ExecContext(ctx, sum[:], until.UnixNano())
	if err != nil {
		return false, fmt.Errorf("spending: %w", err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Sweep implements session.Store.
func (s *Store) Sweep(ctx context.Context, now time.Time) (more bool, err error) {
	err = s.transact(ctx, func(tx *sql.Tx) error {
		for _, batch := range []struct {
			sql string
			arg int64
		}{
			{`DELETE FROM spent WHERE id IN (SELECT id FROM spent WHERE until < ? LIMIT ?)`, now.UnixNano()},
			{`DELETE FROM past WHERE n IN (SELECT n FROM past WHERE until < ? LIMIT ?)`, now.UnixNano()},
			{`DELETE FROM lease WHERE name IN (SELECT name FROM lease WHERE until < ? LIMIT ?)`, now.UnixNano()},
			{`DELETE FROM form WHERE id IN (SELECT id FROM form WHERE until < ? LIMIT ?)`, now.UnixNano()},
			{`DELETE FROM person WHERE subject IN (SELECT subject FROM person WHERE confirmed < ? LIMIT ?)`,
				now.Add(-session.PersonTime).UnixNano()},
			{`DELETE FROM change WHERE generation IN (SELECT generation FROM change
				WHERE generation <= (SELECT max(generation) FROM change) - ? ORDER BY generation LIMIT ?)`, keepNews},
		} {
			res, err := tx.ExecContext(ctx, batch.sql, batch.arg, sweepBatch)
			if err != nil {
				return fmt.Errorf("sweeping: %w", err)
			}
			n, err := res.RowsAffected()
			if err != nil {
				return fmt.Errorf("sweeping: %w", err)
			}
			more = more || n == sweepBatch
		}
		return nil
	})
	return more, err
}

func (s *Store) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("waiting to write: %w", err)
	}
	defer tx.Rollback()
	if err := do(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

const columns = `session.id, session.version, session.identity, session.provider_session, session.secrets,
	session.refreshable, session.user_agent, session.address, session.bound, session.created, session.seen, session.checked,
	session.raised, session.away`

// hosts is one more column: a JSON array.
const hosts = `(SELECT json_group_array(host) FROM (SELECT DISTINCT host FROM handle
	WHERE handle.session = session.n AND handle.host <> '' ORDER BY host))`

func scan(row interface{ Scan(...any) error }, more ...any) (session.Entry, error) {
	var e session.Entry
	var identity, bound []byte
	var created, seen, checked, raised int64
	err := row.Scan(append([]any{&e.ID, &e.Version, &identity, &e.ProviderSession, &e.Secrets, &e.Refreshable, &e.UserAgent,
		&e.Address, &bound, &created, &seen, &checked, &raised, &e.Away}, more...)...)
	if err != nil {
		return session.Entry{}, fmt.Errorf("reading session: %w", err)
	}
	e.Identity = new(authn.Identity)
	if err := json.Unmarshal(identity, e.Identity); err != nil {
		return session.Entry{}, fmt.Errorf("reading session %s: %w", e.ID, err)
	}
	if err := json.Unmarshal(bound, &e.Bound); err != nil {
		return session.Entry{}, fmt.Errorf("reading session %s: %w", e.ID, err)
	}
	e.Created, e.Seen, e.Checked, e.Raised = at(created), at(seen), at(checked), at(raised)
	return e, nil
}

// query reads sessions, the last column of which is their hosts.
func query(ctx context.Context, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, text string, args ...any) ([]session.Entry, error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("reading sessions: %w", err)
	}
	defer rows.Close()
	var found []session.Entry
	for rows.Next() {
		var hosts []byte
		e, err := scan(rows, &hosts)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(hosts, &e.Hosts); err != nil {
			return nil, fmt.Errorf("reading session %s: %w", e.ID, err)
		}
		if len(e.Hosts) == 0 {
			e.Hosts = nil
		}
		found = append(found, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading sessions: %w", err)
	}
	return found, nil
}

// condition turns a match into SQL with parameters.
func condition(m session.Match) (where string, args []any) {
	terms := []string{"TRUE"}
	and := func(term string, arg any) {
		terms, args = append(terms, term), append(args, arg)
	}
	if m.ID != "" {
		and("id = ?", m.ID)
	}
	if m.Except != "" {
		and("id <> ?", m.Except)
	}
	if m.Subject != "" {
		and("subject = ?", m.Subject)
	}
	if m.Email != "" {
		and("email = ?", m.Email)
	}
	if m.Provider != "" {
		and("provider = ?", m.Provider)
	}
	if m.ProviderSession != "" {
		and("provider_session <> '' AND provider_session = ?", m.ProviderSession)
	}
	if m.UserAgent != "" {
		and("user_agent = ?", m.UserAgent)
	}
	if m.Host != "" {
		and("EXISTS (SELECT 1 FROM handle WHERE handle.session = session.n AND handle.host = ?)", m.Host)
	}
	if !m.CreatedBefore.IsZero() {
		and("created <= ?", m.CreatedBefore.UnixNano())
	}
	if !m.SeenBefore.IsZero() {
		and("seen <= ?", m.SeenBefore.UnixNano())
	}
	return strings.Join(terms, " AND "), args
}

func oneOr(res sql.Result, none error) error {
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		return none
	}
	return err
}

func at(nanoseconds int64) time.Time { return time.Unix(0, nanoseconds).UTC() }
