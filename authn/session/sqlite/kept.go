package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
)

// Lease implements session.Store.
func (s *Store) Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	res, err := s.write.ExecContext(ctx, `INSERT INTO lease (name, holder, until) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until
		WHERE lease.holder = excluded.holder OR lease.until <= ?`, name, holder, until.UnixNano(), now.UnixNano())
	if err != nil {
		return false, fmt.Errorf("leasing: %w", err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Release implements session.Store.
func (s *Store) Release(ctx context.Context, name, holder string) error {
	if _, err := s.write.ExecContext(ctx, `DELETE FROM lease WHERE name = ? AND holder = ?`, name, holder); err != nil {
		return fmt.Errorf("releasing: %w", err)
	}
	return nil
}

// KeepForm implements session.Store.
func (s *Store) KeepForm(ctx context.Context, f session.Form) error {
	return s.transact(ctx, func(tx *sql.Tx) error {
		var held, kept int
		err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM form WHERE sealed IS NOT NULL),
			(SELECT count(*) FROM form WHERE session = ?)`, f.Session).Scan(&held, &kept)
		if err != nil {
			return fmt.Errorf("keeping a form: %w", err)
		}
		if kept > 0 {
			return session.ErrConflict
		}
		if held >= session.MaxForms {
			return session.ErrFormRefused
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO form (id, session, sealed, until) VALUES (?, ?, ?, ?)`,
			f.ID[:], f.Session, f.Sealed, f.Until.UnixNano())
		if err != nil {
			return fmt.Errorf("keeping a form: %w", err)
		}
		return nil
	})
}

// Form implements session.Store.
func (s *Store) Form(ctx context.Context, id session.Hash) (session.Form, error) {
	return form(ctx, s.read, id)
}

// TakeForm implements session.Store. One connection writes at a time, so what it reads nobody else takes.
func (s *Store) TakeForm(ctx context.Context, id session.Hash) (f session.Form, err error) {
	err = s.transact(ctx, func(tx *sql.Tx) error {
		if f, err = form(ctx, tx, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE form SET sealed = NULL WHERE id = ?`, id[:]); err != nil {
			return fmt.Errorf("taking a form: %w", err)
		}
		return nil
	})
	if err != nil {
		return session.Form{}, err
	}
	return f, nil
}

func form(ctx context.Context, q interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, id session.Hash) (session.Form, error) {
	f := session.Form{ID: id}
	var until int64
	err := q.QueryRowContext(ctx, `SELECT session, sealed, until FROM form WHERE id = ? AND sealed IS NOT NULL`, id[:]).
		Scan(&f.Session, &f.Sealed, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return session.Form{}, session.ErrNoForm
	}
	if err != nil {
		return session.Form{}, fmt.Errorf("reading a form: %w", err)
	}
	f.Until = at(until)
	return f, nil
}

// confirm writes down that the provider spoke of a person; what is newer stays.
func confirm(ctx context.Context, tx *sql.Tx, e session.Entry, identity []byte) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO person (subject, identity, confirmed) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET identity = excluded.identity, confirmed = excluded.confirmed
		WHERE confirmed <= excluded.confirmed`, e.Identity.ID(), string(identity), e.Checked.UnixNano())
	if err != nil {
		return fmt.Errorf("confirming a person: %w", err)
	}
	return nil
}

// Person implements session.Store.
func (s *Store) Person(ctx context.Context, subject string) (session.Person, error) {
	var identity []byte
	var confirmed, disabled int64
	err := s.read.QueryRowContext(ctx, `SELECT identity, confirmed, disabled FROM person WHERE subject = ?`, subject).
		Scan(&identity, &confirmed, &disabled)
	if errors.Is(err, sql.ErrNoRows) {
		return session.Person{}, session.ErrNoPerson
	}
	if err != nil {
		return session.Person{}, fmt.Errorf("reading a person: %w", err)
	}
	p := session.Person{Identity: new(authn.Identity), Confirmed: at(confirmed), Disabled: disabled >= confirmed}
	if err := json.Unmarshal(identity, p.Identity); err != nil {
		return session.Person{}, fmt.Errorf("reading person %s: %w", subject, err)
	}
	return p, nil
}

// Disable implements session.Store.
func (s *Store) Disable(ctx context.Context, subject string, at time.Time) error {
	res, err := s.write.ExecContext(ctx, `UPDATE person SET disabled = max(disabled, ?) WHERE subject = ?`, at.UnixNano(), subject)
	if err != nil {
		return fmt.Errorf("disabling a person: %w", err)
	}
	return oneOr(res, session.ErrNoPerson)
}
