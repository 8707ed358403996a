package sqlite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup writes a copy of the state, as of one moment and while the store is in use, to a new file at dest; it never
// overwrites one. The copy has mode 0600, holds every secret that the state file holds, and is durable when Backup
// returns nil.
//
// To restore: stop the gateway, move the state file and its -wal and -shm companions away, copy the backup to the
// state file's path with mode 0600 and the gateway's owner, start the gateway. Sessions that ended after the backup
// was made live again until they expire: `sallyport session revoke --all` ends them, and everybody signs in again.
func (s *Store) Backup(ctx context.Context, dest string) (err error) {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("backing up the state: %s exists", dest)
	}
	part := dest + ".part-" + rand.Text()
	defer os.Remove(part)
	if err := s.copyTo(ctx, part); err != nil {
		return fmt.Errorf("backing up the state to %s: %w", dest, err)
	}
	if err := os.Link(part, dest); err != nil { // fails where a rename would replace
		return fmt.Errorf("backing up the state: %w", err)
	}
	if err := errors.Join(os.Remove(part), syncDir(filepath.Dir(dest))); err != nil {
		return fmt.Errorf("backing up the state to %s: %w", dest, err)
	}
	return nil
}

func (s *Store) copyTo(ctx context.Context, part string) error {
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	db, err := connect(s.path, 1, reading)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, part); err != nil { // fills a file that is there and empty
		return err
	}
	return f.Sync()
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
