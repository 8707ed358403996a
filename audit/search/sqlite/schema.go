package sqlite

import "sallyport/audit"

// applicationID marks our files (PRAGMA application_id): "SLYS". schemaVersion is their PRAGMA user_version; a file of
// another version is made anew, for everything in it is derived.
const (
	applicationID = 0x534c5953
	schemaVersion = 1
)

// What many records have in common is kept once: a kind is a combination of columns that have few values, a person one
// of who it is about and who did it. A row then is a handful of small integers, and a condition on any of those columns
// becomes a set of kinds and persons. Kind 0 is that of doubtful rows; person 0 is nobody.
const schema = `
	CREATE TABLE state (
		log     TEXT    PRIMARY KEY,
		epoch   TEXT    NOT NULL,
		first   INTEGER NOT NULL,
		next    INTEGER NOT NULL,
		segment INTEGER NOT NULL,
		offset  INTEGER NOT NULL,
		line    INTEGER NOT NULL,
		anchor  BLOB    NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE kind (
		id     INTEGER PRIMARY KEY,
		type   TEXT NOT NULL,
		code   TEXT NOT NULL,
		app    TEXT NOT NULL,
		effect TEXT NOT NULL,
		reason TEXT NOT NULL,
		method TEXT NOT NULL,
		UNIQUE (app, type, code, effect, reason, method)
	) STRICT;
	CREATE TABLE person (
		id      INTEGER PRIMARY KEY,
		subject TEXT NOT NULL,
		email   TEXT NOT NULL,
		actor   TEXT NOT NULL,
		name    TEXT NOT NULL,
		UNIQUE (subject, email, actor, name)
	) STRICT;
	-- What a person is called: ids as they are after "=", names folded after "~".
	CREATE TABLE called (
		name   TEXT    NOT NULL,
		person INTEGER NOT NULL,
		PRIMARY KEY (name, person)
	) STRICT, WITHOUT ROWID;
	-- Digests of policies and ids of boots.
	CREATE TABLE word (
		id   INTEGER PRIMARY KEY,
		text TEXT NOT NULL UNIQUE
	) STRICT;
`

// logSchema is made for each log; %[1]s is its name. A span covers consecutive rows and says what times are among them,
// so that a range of time becomes one of seqs: times hardly ever go back. The rows' table is not STRICT: with it, SQLite
// would keep each page that an insertion touches, to undo that alone.
const logSchema = `
	CREATE TABLE %[1]s (
		seq     INTEGER PRIMARY KEY,
		segment INTEGER NOT NULL,
		offset  INTEGER NOT NULL,
		line    INTEGER NOT NULL,
		time    INTEGER NOT NULL,
		kind    INTEGER NOT NULL,
		person  INTEGER,
		session INTEGER,
		request INTEGER,
		policy  INTEGER NOT NULL,
		boot    INTEGER NOT NULL
	);
	CREATE INDEX %[1]s_kind    ON %[1]s (kind);
	CREATE INDEX %[1]s_person  ON %[1]s (person)  WHERE person IS NOT NULL;
	CREATE INDEX %[1]s_session ON %[1]s (session) WHERE session IS NOT NULL;
	CREATE INDEX %[1]s_request ON %[1]s (request) WHERE request IS NOT NULL;
	CREATE TABLE %[1]s_span (
		first    INTEGER PRIMARY KEY,
		last     INTEGER NOT NULL,
		earliest INTEGER NOT NULL,
		latest   INTEGER NOT NULL
	) STRICT;
	-- How many rows of a kind a span has.
	CREATE TABLE %[1]s_tally (
		span INTEGER NOT NULL,
		kind INTEGER NOT NULL,
		n    INTEGER NOT NULL,
		PRIMARY KEY (kind, span)
	) STRICT, WITHOUT ROWID;
`

var logs = []string{audit.DecisionLog, audit.ControlLog}

const columns = 11 // of a row
