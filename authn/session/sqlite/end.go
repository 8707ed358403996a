package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"sallyport/authn/session"
)

// Delete implements session.Store.
func (s *Store) Delete(ctx context.Context, m session.Match, reason string, limit int) (gone []session.Entry, err error) {
	err = s.announce(ctx, func(tx *sql.Tx) error {
		chosen, err := choose(ctx, tx, m, limit)
		if err != nil {
			return err
		}
		gone, err = end(ctx, tx, chosen, reason)
		return err
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// Expire implements session.Store.
func (s *Store) Expire(ctx context.Context, m session.Match, now time.Time, limit int) (gone []session.Entry, err error) {
	err = s.announce(ctx, func(tx *sql.Tx) error {
		chosen, err := choose(ctx, tx, m, limit)
		if err != nil {
			return err
		}
		if err := remember(ctx, tx, chosen, now.Add(session.PastTime)); err != nil {
			return err
		}
		gone, err = end(ctx, tx, chosen, session.Expired)
		return err
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}

// choose returns the keys of up to limit sessions that match, as a JSON array.
func choose(ctx context.Context, tx *sql.Tx, m session.Match, limit int) (string, error) {
	text, args := choosing(m)
	var chosen string
	err := tx.QueryRowContext(ctx, text, append(args, limit)...).Scan(&chosen)
	if err != nil {
		return "", fmt.Errorf("choosing sessions: %w", err)
	}
	return chosen, nil
}

// choosing begins with the handles of a host where nothing else narrows the search: those of one app may be a few of
// very many sessions, or almost all.
func choosing(m session.Match) (text string, args []any) {
	where, args := condition(m)
	from := "SELECT n FROM session WHERE "
	if m.Host != "" && m.ID+m.Subject+m.Email+m.ProviderSession == "" {
		from = "SELECT DISTINCT handle.session AS n FROM handle CROSS JOIN session ON session.n = handle.session WHERE handle.host <> '' AND handle.host = ? AND "
		host := m.Host
		m.Host = ""
		where, args = condition(m)
		args = append([]any{host}, args...)
	}
	return "SELECT json_group_array(n) FROM (" + from + where + " LIMIT ?)", args
}

func end(ctx context.Context, tx *sql.Tx, chosen, reason string) ([]session.Entry, error) {
	gone, err := query(ctx, tx, "DELETE FROM session WHERE n IN (SELECT value FROM json_each(?)) RETURNING "+columns+", '[]'", chosen)
	if err != nil {
		return nil, fmt.Errorf("ending sessions: %w", err)
	}
	return gone, tellAll(ctx, tx, reason, gone)
}

// remember writes down whose the handles of sessions were, and drops what is too much.
func remember(ctx context.Context, tx *sql.Tx, chosen string, until time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO past (hash, host, session, subject, created, seen, until)
		SELECT handle.hash, handle.host, s.id, s.subject, s.created, s.seen, ?
		FROM session AS s JOIN handle ON handle.session = s.n WHERE s.n IN (SELECT value FROM json_each(?))`, until.UnixNano(), chosen)
	if err != nil {
		return fmt.Errorf("remembering expired sessions: %w", err)
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM past WHERE n <= (SELECT max(n) FROM past) - ?`, session.MaxPast)
	if err != nil {
		return fmt.Errorf("forgetting expired sessions: %w", err)
	}
	return nil
}

// Past implements session.Store.
func (s *Store) Past(ctx context.Context, handle session.Hash) (session.Trace, error) {
	var t session.Trace
	var created, seen int64
	err := s.read.QueryRowContext(ctx, `SELECT session, subject, host, created, seen FROM past WHERE hash = ?`, handle[:]).
		Scan(&t.SessionID, &t.Subject, &t.Host, &created, &seen)
	if errors.Is(err, sql.ErrNoRows) {
		return session.Trace{}, session.ErrNoSession
	}
	if err != nil {
		return session.Trace{}, fmt.Errorf("reading an expired session: %w", err)
	}
	t.Created, t.Seen = at(created), at(seen)
	return t, nil
}
