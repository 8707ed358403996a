package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sallyport/authn/session"
)

// pollEvery is how often a watch asks whether any process has written: one page read from shared memory.
const pollEvery = 250 * time.Millisecond

// announce runs a transaction that makes news, and wakes the watches of this process when it is committed.
func (s *Store) announce(ctx context.Context, do func(*sql.Tx) error) error {
	if err := s.transact(ctx, do); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.wake)
	s.wake = make(chan struct{})
	return nil
}

// tell writes one piece of news: the generation grows in the transaction that changes the session.
func tell(ctx context.Context, tx *sql.Tx, c session.Change) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO change (session, host, reason) VALUES (?, ?, ?)`, c.SessionID, c.Host, c.Reason)
	if err != nil {
		return fmt.Errorf("writing news: %w", err)
	}
	return nil
}

// tellAll writes the news of many ends in one statement.
func tellAll(ctx context.Context, tx *sql.Tx, reason string, gone []session.Entry) error {
	if len(gone) == 0 {
		return nil
	}
	ids := make([]string, len(gone))
	for i, e := range gone {
		ids[i] = e.ID
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return fmt.Errorf("writing news: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO change (session, host, reason) SELECT value, '', ? FROM json_each(?)`, reason, string(list))
	if err != nil {
		return fmt.Errorf("writing news: %w", err)
	}
	return nil
}

// Watch implements session.Store. It has a connection of its own, because PRAGMA data_version tells of the commits of
// other connections only.
func (s *Store) Watch(ctx context.Context, after session.Position, report func(session.News)) error {
	db, err := connect(s.path, 1, reading, "query_only(ON)")
	if err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	defer db.Close()
	w := watch{db: db, data: -1, lost: after == ""}
	if !w.lost {
		if w.at, err = strconv.ParseInt(string(after), 10, 64); err != nil {
			return fmt.Errorf("watching: bad position %q", after)
		}
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		s.mu.Lock()
		wake := s.wake
		s.mu.Unlock()
		news, err := w.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		report(news)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
		}
	}
}

// watch is how far one Watch has come.
type watch struct {
	db   *sql.DB
	data int64 // PRAGMA data_version at the last reading, -1 before the first
	at   int64 // generation up to which all was reported
	lost bool  // begin with the present
}

func (w *watch) poll(ctx context.Context) (session.News, error) {
	news := session.News{AsOf: time.Now()}
	var data int64
	if err := w.db.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&data); err != nil {
		return news, err
	}
	if data != w.data {
		if err := w.read(ctx, &news); err != nil {
			return news, err
		}
		w.data = data
	}
	news.Position = session.Position(strconv.FormatInt(w.at, 10))
	return news, nil
}

// read collects the changes since w.at. They are complete if they lead without a gap to the newest generation.
func (w *watch) read(ctx context.Context, news *session.News) error {
	tx, err := w.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var newest int64
	err = tx.QueryRowContext(ctx, `SELECT seq FROM sqlite_sequence WHERE name = 'change'`).Scan(&newest)
	if err != nil && !errors.Is(err, sql.ErrNoRows) { // no row: nothing ever changed
		return err
	}
	if !w.lost {
		if news.Changes, err = changes(ctx, tx, w.at); err != nil {
			return err
		}
	}
	if w.lost || int64(len(news.Changes)) != newest-w.at {
		news.Lost, news.Changes = true, nil
	}
	w.at, w.lost = newest, false
	return nil
}

func changes(ctx context.Context, tx *sql.Tx, after int64) ([]session.Change, error) {
	rows, err := tx.QueryContext(ctx, `SELECT session, host, reason FROM change WHERE generation > ? ORDER BY generation`, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []session.Change
	for rows.Next() {
		var c session.Change
		if err := rows.Scan(&c.SessionID, &c.Host, &c.Reason); err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, rows.Err()
}
