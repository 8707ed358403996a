package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrNewer: the file was written by a later version of Sallyport than this one.
var ErrNewer = errors.New("state file is of a newer version")

// ErrForeign: the file is a database, but not one of ours.
var ErrForeign = errors.New("not a sallyport state file")

// applicationID marks our files (PRAGMA application_id): "SLYP".
const applicationID = 0x534c5950

// migrations lead from each schema version to the next; the version of a file (PRAGMA user_version) is how many of
// them it has seen. What is released here never changes: a new version appends a step.
var migrations = []string{
	`
	-- Sealing keys are not encrypted; see the package comment for what follows from it.
	CREATE TABLE sealing_key (
		id     INTEGER PRIMARY KEY AUTOINCREMENT,
		secret BLOB    NOT NULL CHECK (length(secret) = 32),
		made   INTEGER NOT NULL
	) STRICT;

	-- Times are Unix nanoseconds. subject, email and provider repeat what identity holds, to be searched by.
	CREATE TABLE session (
		n          INTEGER PRIMARY KEY,
		id         TEXT    NOT NULL UNIQUE,
		version    INTEGER NOT NULL,
		subject    TEXT    NOT NULL,
		email      TEXT    NOT NULL COLLATE NOCASE,
		provider   TEXT    NOT NULL,
		identity   TEXT    NOT NULL,
		refresh    BLOB,
		user_agent TEXT    NOT NULL,
		address    TEXT    NOT NULL,
		created    INTEGER NOT NULL,
		seen       INTEGER NOT NULL
	) STRICT;
	CREATE INDEX session_subject ON session (subject);
	CREATE INDEX session_email   ON session (email);
	CREATE INDEX session_created ON session (created);
	CREATE INDEX session_seen    ON session (seen);

	-- Host '' is the sign-in host.
	CREATE TABLE handle (
		hash    BLOB    PRIMARY KEY CHECK (length(hash) = 32),
		session INTEGER NOT NULL REFERENCES session (n) ON DELETE CASCADE,
		host    TEXT    NOT NULL,
		made    INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX handle_session ON handle (session, host, made);

	CREATE TABLE spent (
		id      BLOB    PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the id
		until   INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX spent_until ON spent (until);

	-- The news. generation is the revocation generation: it grows by one with each row, without gaps.
	CREATE TABLE change (
		generation INTEGER PRIMARY KEY AUTOINCREMENT,
		session    TEXT NOT NULL,
		host       TEXT NOT NULL,
		reason     TEXT NOT NULL
	) STRICT;
	`,
	`
	-- secrets holds what the provider handed over, sealed; what schema 1 sealed is a refresh token alone.
	ALTER TABLE session RENAME COLUMN refresh TO secrets;
	ALTER TABLE session ADD COLUMN refreshable      INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE session ADD COLUMN provider_session TEXT    NOT NULL DEFAULT '';
	ALTER TABLE session ADD COLUMN bound            TEXT    NOT NULL DEFAULT '{}';
	ALTER TABLE session ADD COLUMN checked          INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE session ADD COLUMN raised           INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE session ADD COLUMN away             INTEGER NOT NULL DEFAULT 0; -- nanoseconds
	UPDATE session SET refreshable = secrets IS NOT NULL, checked = created, raised = created;

	-- Each with the id, by which lists are in order: a page of a person's sessions is read without sorting.
	DROP INDEX session_subject;
	DROP INDEX session_email;
	CREATE INDEX session_subject          ON session (subject, id);
	CREATE INDEX session_email            ON session (email, id);
	CREATE INDEX session_provider         ON session (provider, id);
	CREATE INDEX session_provider_session ON session (provider_session, id) WHERE provider_session <> '';
	CREATE INDEX handle_host              ON handle (host, session) WHERE host <> '';

	-- What is left of the handles of sessions that expired. n counts up, so that the newest can be told.
	CREATE TABLE past (
		n       INTEGER PRIMARY KEY AUTOINCREMENT,
		hash    BLOB    NOT NULL UNIQUE,
		host    TEXT    NOT NULL,
		session TEXT    NOT NULL,
		subject TEXT    NOT NULL,
		created INTEGER NOT NULL,
		seen    INTEGER NOT NULL,
		until   INTEGER NOT NULL
	) STRICT;
	CREATE INDEX past_until ON past (until);

	CREATE TABLE lease (
		name   TEXT    PRIMARY KEY,
		holder TEXT    NOT NULL,
		until  INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE INDEX lease_until ON lease (until);

	-- sealed is NULL once the form was taken: the session keeps no second one.
	CREATE TABLE form (
		id      BLOB    PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of the id
		session TEXT    NOT NULL UNIQUE,
		sealed  BLOB,
		until   INTEGER NOT NULL
	) STRICT;
	CREATE INDEX form_until ON form (until);
	CREATE INDEX form_held  ON form (id) WHERE sealed IS NOT NULL;

	-- disabled is when the provider refused to speak of the person, 0 if it never did.
	CREATE TABLE person (
		subject   TEXT    PRIMARY KEY,
		identity  TEXT    NOT NULL,
		confirmed INTEGER NOT NULL,
		disabled  INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE INDEX person_confirmed ON person (confirmed);
	INSERT INTO person (subject, identity, confirmed) SELECT subject, identity, max(created) FROM session GROUP BY subject;
	`,
	personalSchema,
}

// migrate brings the database to the newest of the steps, one transaction for all. It changes nothing in a file that
// is foreign or newer.
func migrate(ctx context.Context, db *sql.DB, steps []string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	defer tx.Rollback()
	version, err := schemaVersion(ctx, tx)
	if err != nil {
		return err
	}
	if version > len(steps) {
		return fmt.Errorf("%w: schema %d, this sallyport knows up to %d", ErrNewer, version, len(steps))
	}
	for i := version; i < len(steps); i++ {
		if _, err := tx.ExecContext(ctx, steps[i]); err != nil {
			return fmt.Errorf("migrating to schema %d: %w", i+1, err)
		}
	}
	if version < len(steps) {
		set := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(steps))
		if _, err := tx.ExecContext(ctx, set); err != nil {
			return fmt.Errorf("writing schema version: %w", err)
		}
	}
	return tx.Commit()
}

func schemaVersion(ctx context.Context, tx *sql.Tx) (int, error) {
	var version, application, tables int
	err := tx.QueryRowContext(ctx, `SELECT (SELECT user_version FROM pragma_user_version),
		(SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)`).
		Scan(&version, &application, &tables)
	if err != nil {
		return 0, fmt.Errorf("reading schema version: %w", err)
	}
	if application != applicationID && (application != 0 || tables != 0) {
		return 0, ErrForeign
	}
	return version, nil
}
