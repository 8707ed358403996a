package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"sallyport/authn/personal"
)

// personalSchema is the step of the schema that brings personal tokens. A token is there as a hash only. expires and ended
// are Unix nanoseconds; ended is 0 while nobody has revoked it.
const personalSchema = `
	CREATE TABLE token (
		hash    BLOB    PRIMARY KEY CHECK (length(hash) = 32),
		id      TEXT    NOT NULL UNIQUE,
		owner   TEXT    NOT NULL,
		name    TEXT    NOT NULL,
		apps    TEXT    NOT NULL,
		methods TEXT    NOT NULL,
		created INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		used    INTEGER NOT NULL,
		ended   INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX token_owner   ON token (owner, created);
	CREATE INDEX token_created ON token (created);
	CREATE INDEX token_expires ON token (expires);
	CREATE INDEX token_ended   ON token (ended) WHERE ended <> 0;
	`

// Tokens keeps personal tokens in the state file.
type Tokens struct{ s *Store }

// Tokens returns the file's personal tokens.
func (s *Store) Tokens() Tokens { return Tokens{s} }

var _ personal.Store = Tokens{}

const tokenColumns = `id, owner, name, apps, methods, created, expires, used, ended`

// PutToken implements personal.Store. What the owner has is counted in the transaction that adds to it.
func (t Tokens) PutToken(ctx context.Context, hash personal.Hash, made personal.Token, most int) error {
	apps, methods := listText(made.Apps), listText(made.Methods)
	return t.s.transact(ctx, func(tx *sql.Tx) error {
		var active, named int
		err := tx.QueryRowContext(ctx, `SELECT count(*), ifnull(sum(name = ?), 0) FROM token WHERE owner = ? AND ended = 0 AND expires > ?`,
			made.Name, made.Owner, made.Created.UnixNano()).Scan(&active, &named)
		switch {
		case err != nil:
			return fmt.Errorf("counting tokens: %w", err)
		case named > 0:
			return personal.ErrNameTaken
		case active >= most:
			return personal.ErrTooMany
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO token (hash, `+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)`,
			hash[:], made.ID, made.Owner, made.Name, apps, methods, made.Created.UnixNano(), made.Expires.UnixNano())
		if err != nil {
			return fmt.Errorf("storing a token: %w", err)
		}
		return nil
	})
}

func listText(list []string) string {
	text, err := json.Marshal(list)
	if err != nil {
		panic("BUG: a list of texts: " + err.Error())
	}
	return string(text)
}

// Token implements personal.Store.
func (t Tokens) Token(ctx context.Context, hash personal.Hash) (personal.Token, error) {
	found, err := scanToken(t.s.read.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM token WHERE hash = ?`, hash[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return personal.Token{}, personal.ErrNoToken
	}
	return found, err
}

func scanToken(row interface{ Scan(...any) error }) (t personal.Token, err error) {
	var apps, methods string
	var created, expires, used, ended int64
	if err := row.Scan(&t.ID, &t.Owner, &t.Name, &apps, &methods, &created, &expires, &used, &ended); err != nil {
		return t, fmt.Errorf("reading a token: %w", err)
	}
	if err := errors.Join(json.Unmarshal([]byte(apps), &t.Apps), json.Unmarshal([]byte(methods), &t.Methods)); err != nil {
		return t, fmt.Errorf("reading token %s: %w", t.ID, err)
	}
	t.Created, t.Expires, t.Used, t.Ended = moment(created), moment(expires), moment(used), moment(ended)
	return t, nil
}

// moment is a time as stored; 0 is none.
func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// tokenMatch is the condition that a filter is: of its id and its owner.
const tokenMatch = `(?1 = '' OR id = ?1) AND (?2 = '' OR owner = ?2)`

// Tokens implements personal.Store.
func (t Tokens) Tokens(ctx context.Context, f personal.Filter, after personal.Token, limit int) ([]personal.Token, error) {
	created := int64(math.MaxInt64)
	if after.ID != "" {
		created = after.Created.UnixNano()
	}
	return collectTokens(t.s.read.QueryContext(ctx, `SELECT `+tokenColumns+` FROM token WHERE `+tokenMatch+`
		AND created <= ?3 AND (created < ?3 OR id > ?4) ORDER BY created DESC, id LIMIT ?5`,
		f.ID, f.Owner, created, after.ID, limit))
}

func collectTokens(rows *sql.Rows, err error) ([]personal.Token, error) {
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	defer rows.Close()
	var list []personal.Token
	for rows.Next() {
		found, err := scanToken(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, found)
	}
	return list, rows.Err()
}

// RevokeTokens implements personal.Store.
func (t Tokens) RevokeTokens(ctx context.Context, f personal.Filter, at time.Time) (gone []personal.Token, err error) {
	err = t.s.transact(ctx, func(tx *sql.Tx) error {
		gone, err = collectTokens(tx.QueryContext(ctx, `UPDATE token SET ended = ?3 WHERE ended = 0 AND `+tokenMatch+` RETURNING `+tokenColumns,
			f.ID, f.Owner, at.UnixNano()))
		return err
	})
	return gone, err
}

// TouchTokens implements personal.Store.
func (t Tokens) TouchTokens(ctx context.Context, used map[string]time.Time) error {
	return t.s.transact(ctx, func(tx *sql.Tx) error {
		for id, at := range used {
			if _, err := tx.ExecContext(ctx, `UPDATE token SET used = ?2 WHERE id = ?1 AND used < ?2`, id, at.UnixNano()); err != nil {
				return fmt.Errorf("writing down the use of a token: %w", err)
			}
		}
		return nil
	})
}

// RevokedTokens implements personal.Store.
func (t Tokens) RevokedTokens(ctx context.Context, since time.Time) ([]string, error) {
	rows, err := t.s.read.QueryContext(ctx, `SELECT id FROM token WHERE ended <> 0 AND ended >= ?`, since.UnixNano())
	if err != nil {
		return nil, fmt.Errorf("listing revoked tokens: %w", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// SweepTokens implements personal.Store.
func (t Tokens) SweepTokens(ctx context.Context, before time.Time) error {
	return t.s.transact(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM token WHERE expires < ?1 OR ended <> 0 AND ended < ?1`, before.UnixNano())
		if err != nil {
			return fmt.Errorf("forgetting tokens: %w", err)
		}
		return nil
	})
}
