// Package sqlite is a search.Store in one SQLite file, for the processes of one machine.
//
// The file is in a folder of its own, named anew each time it is made, and the file "current" says which one it is: a
// process that still has an old one open can do no harm to its successor. It is in WAL mode without a sync per commit:
// after a power cut it may lack what came last, which the log still has.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	driver "modernc.org/sqlite" // registers "sqlite" with database/sql

	"sallyport/audit/search"
)

const (
	readers     = 4
	busyTimeout = time.Minute // the longest that another process may index without a pause

	folderMode = 0o750
	fileMode   = 0o640 // as the log's own files: the directory's group may read

	pointer = "current"
	lock    = "lock"
	prefix  = "copy-"
	suffix  = ".db"
)

// Store implements search.Store.
type Store struct {
	dir      string
	readOnly bool

	mu sync.RWMutex // held for reading while the database is used, for writing while it is replaced
	db *database    // nil after Close
}

var _ search.Store = (*Store)(nil)

// database is one open file.
type database struct {
	name  string  // within the folder
	write *sql.DB // nil when the copy is only read
	read  *sql.DB

	writing sync.Mutex // guards words
	words   *words
}

// Open opens the copy in a folder, and makes both where there is none. A file that cannot be read as one of ours is made
// anew.
func Open(ctx context.Context, dir string) (*Store, error) {
	if err := makeFolder(dir); err != nil {
		return nil, fmt.Errorf("opening searchable copy: %w", err)
	}
	s := &Store{dir: dir}
	if err := s.reopen(ctx, false); err != nil {
		return nil, fmt.Errorf("opening searchable copy in %s: %w", dir, err)
	}
	return s, nil
}

// OpenReading opens the copy in a folder as it is, to look things up in it: nothing is made there, and Extend, Forget, Reset
// and Discard fail. Any error means that there is no copy that could be used from here.
func OpenReading(ctx context.Context, dir string) (*Store, error) {
	s := &Store{dir: dir, readOnly: true}
	if err := s.reopen(ctx, false); err != nil {
		return nil, fmt.Errorf("opening searchable copy in %s: %w", dir, err)
	}
	return s, nil
}

// makeFolder makes the folder if need be.
func makeFolder(dir string) error {
	err := os.Mkdir(dir, folderMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return adopt(dir, filepath.Dir(dir))
}

// adopt gives what root has made to the owner of the folder above, who is going to write to it.
func adopt(path, above string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner unix.Stat_t
	if err := unix.Stat(above, &owner); err != nil {
		return &os.PathError{Op: "stat", Path: above, Err: err}
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

// reopen opens the file that is current, or a new one when there is none, or when it cannot be used, or when the current one
// is what this store has and is to be discarded.
func (s *Store) reopen(ctx context.Context, discard bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	release, err := s.hold()
	if err != nil {
		return err
	}
	defer release()
	name, err := s.current()
	if err != nil {
		return err
	}
	old := ""
	if s.db != nil {
		old = s.db.name
		s.db.close()
		s.db = nil
	}
	if name != "" && !(discard && name == old) {
		if s.db, err = s.openDatabase(ctx, filepath.Join(s.dir, name), false); err == nil {
			return nil
		}
		s.db = nil
		if !errors.Is(err, search.ErrBroken) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.readOnly {
		return errors.Join(err, errReadOnly)
	}
	return s.createLocked(ctx)
}

// errReadOnly says that there is no copy to use, or that this store may not change it.
var errReadOnly = errors.New("the searchable copy cannot be used from here as it is")

// createLocked makes a new file, points at it, and removes all others.
func (s *Store) createLocked(ctx context.Context) error {
	name := prefix + strings.ToLower(rand.Text()) + suffix
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), adopt(path, s.dir)); err != nil {
		return err
	}
	db, err := s.openDatabase(ctx, path, true)
	if err != nil {
		return err
	}
	if err := s.point(name); err != nil {
		db.close()
		return err
	}
	s.db = db
	s.sweep(name)
	return nil
}

func (s *Store) point(name string) error {
	temporary := filepath.Join(s.dir, pointer+".tmp")
	if err := os.WriteFile(temporary, []byte(name+"\n"), fileMode); err != nil {
		return err
	}
	if err := adopt(temporary, s.dir); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(s.dir, pointer))
}

// sweep removes the files of copies that are not current. One that stays takes room and does no harm.
func (s *Store) sweep(current string) {
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && !strings.HasPrefix(e.Name(), current) {
			_ = os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
}

// current is the name of the current file; empty when there is none.
func (s *Store) current() (string, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, pointer))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	name := strings.TrimSuffix(string(text), "\n")
	if err == nil && (name != filepath.Base(name) || !strings.HasPrefix(name, prefix)) {
		return "", nil // not written by us; it is replaced
	}
	return name, err
}

// hold keeps other processes from replacing the file.
func (s *Store) hold() (release func(), err error) {
	flag := os.O_RDONLY
	if !s.readOnly {
		flag |= os.O_CREATE
	}
	f, err := os.OpenFile(filepath.Join(s.dir, lock), flag, fileMode)
	if err == nil && !s.readOnly {
		err = adopt(f.Name(), s.dir)
	}
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "flock", Path: f.Name(), Err: err}, f.Close())
	}
	return func() { f.Close() }, nil
}

// use runs do on the current file, for which it opens the one that another process made meanwhile.
func (s *Store) use(ctx context.Context, do func(*database) error) error {
	for {
		s.mu.RLock()
		if s.db == nil {
			s.mu.RUnlock()
			return errors.New("the searchable copy is closed")
		}
		name, err := s.current()
		if err == nil && name == s.db.name {
			err = broken(do(s.db))
			s.mu.RUnlock()
			return err
		}
		s.mu.RUnlock()
		if err == nil {
			err = s.reopen(ctx, false)
		}
		if err != nil {
			return err
		}
	}
}

// Discard implements search.Store.
func (s *Store) Discard(ctx context.Context) error { return s.reopen(ctx, true) }

// Close implements search.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	err := s.db.close()
	s.db = nil
	return err
}

// Size implements search.Store.
func (s *Store) Size(ctx context.Context) (size int64, err error) {
	err = s.use(ctx, func(d *database) error {
		for _, end := range []string{"", "-wal"} {
			info, err := os.Stat(filepath.Join(s.dir, d.name+end))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			size += info.Size()
		}
		return nil
	})
	return size, err
}

func (s *Store) openDatabase(ctx context.Context, path string, fresh bool) (*database, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	d := &database{name: filepath.Base(path), words: newWords()}
	err := broken(d.open(ctx, path, fresh, s.readOnly))
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *database) open(ctx context.Context, path string, fresh, readOnly bool) (err error) {
	if readOnly {
		if d.read, err = connect(path, readers, "deferred", "query_only(ON)", "cache_size(-32768)"); err != nil {
			return err
		}
		return check(ctx, d.read)
	}
	// A writer that indexes from the beginning is faster when its indexes fit into memory, and when it folds the WAL
	// into the file by 64 MiB.
	if d.write, err = connect(path, 1, "immediate", "synchronous(NORMAL)", "cache_size(-131072)",
		"wal_autocheckpoint(16384)", "journal_size_limit(67108864)", "temp_store(MEMORY)"); err != nil {
		return err
	}
	if fresh {
		err = d.create(ctx)
	} else {
		err = check(ctx, d.write)
	}
	if err != nil {
		return err
	}
	d.read, err = connect(path, readers, "deferred", "query_only(ON)", "cache_size(-32768)")
	return err
}

func (d *database) create(ctx context.Context) error {
	texts := []string{schema, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion)}
	for _, log := range logs {
		texts = append(texts, fmt.Sprintf(logSchema, log))
	}
	if _, err := d.write.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil {
		return err
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, strings.Join(texts, "")); err != nil {
		return err
	}
	return tx.Commit()
}

// check tells whether a file is one of ours.
func check(ctx context.Context, db *sql.DB) error {
	var version, application, tables int
	err := db.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		(SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)`).
		Scan(&version, &application, &tables)
	if err == nil && (version != schemaVersion || application != applicationID || tables == 0) {
		err = fmt.Errorf("%w: schema %d, want %d", search.ErrBroken, version, schemaVersion)
	}
	return err
}

func connect(path string, connections int, begin string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_txlock": {begin}}
	for _, p := range append([]string{fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds())}, pragmas...) {
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

func (d *database) close() error {
	var errs []error
	for _, db := range []*sql.DB{d.read, d.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// broken marks the errors that mean that the file does not hold what was written to it
// (https://www.sqlite.org/rescode.html): SQLITE_ERROR is a statement that does not fit the schema, since ours do.
func broken(err error) error {
	failed, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return err
	}
	switch failed.Code() & 0xff {
	case 1, 11, 20, 26: // SQLITE_ERROR, _CORRUPT, _MISMATCH, _NOTADB
		return fmt.Errorf("%w: %w", search.ErrBroken, err)
	}
	return err
}
