package search

import (
	"context"
	"errors"
	"time"

	"sallyport/audit"
)

// Store keeps rows about the records of logs. It is the part that a database does; sqlite.Store is one, and every one runs
// the suite searchtest. Its methods may be called from several goroutines, and several processes may use one store.
//
// Errors: ErrConflict where stated, ErrBroken when what is stored cannot be read as what was written, ctx's, and whatever
// else keeps a database from working.
type Store interface {
	// State returns how far the copy of a log is; the zero State when there is none.
	State(ctx context.Context, log string) (State, error)
	// Extend appends rows to a log's copy and moves its state, both or neither. Rows come in the order of their seqs and
	// follow those that are there. It is ErrConflict when the state is not was any more.
	Extend(ctx context.Context, log string, was State, rows []Row, now State) error
	// Forget drops the rows of a log before a seq, which becomes State.First unless that is larger already.
	Forget(ctx context.Context, log string, before uint64) error
	// Reset drops all rows and the state of a log.
	Reset(ctx context.Context, log string) error
	// Find returns the first rows in the order wished for that meet a condition, at most limit of them, and the state that
	// they belong to. It may return rows that do not meet it, but all that do before the last it returns. Fewer than limit
	// rows are all there are.
	Find(ctx context.Context, log string, c Condition, limit int) ([]Hit, State, error)
	// Count is how many rows meet a condition exactly, and the state that this is about. Doubtful rows are not counted;
	// when there are any, Count is ErrDoubtful.
	Count(ctx context.Context, log string, c Condition) (uint64, State, error)
	// Discard drops everything, readable or not, and begins anew.
	Discard(ctx context.Context) error
	// Size is how many bytes the copy takes on the disk.
	Size(ctx context.Context) (int64, error)
	// Close ends the use.
	Close() error
}

// ErrConflict says that another process has changed the copy of a log meanwhile. Read its state and begin again.
var ErrConflict = errors.New("the copy was changed meanwhile")

// ErrDoubtful says that rows can be counted only by reading their records.
var ErrDoubtful = errors.New("the copy holds doubtful rows")

// ErrBroken says that the copy cannot be read. It holds nothing that the log does not: Discard it.
var ErrBroken = errors.New("the copy is broken")

// State says which records of a log are in its copy.
type State struct {
	Epoch string // another one after each Reset and Discard; empty while there is nothing
	First uint64 // seq of the oldest
	Next  uint64 // seq after the newest: where to go on
	Last  audit.Position
	// Anchor is the SHA-256 of the newest one's bytes. A log that has other bytes there is not the one that was copied.
	Anchor [32]byte
}

// Row is what is kept of a record: where it stands, and what it can be found by.
type Row struct {
	Seq uint64
	audit.Position
	Time time.Time

	Type, Code, App, Effect, Reason string
	Method, Policy, Boot            string
	RequestID, Session              string

	// Who it is about or who did it: ids compare exactly, names in any case (strings.EqualFold). Empty ones are nobody.
	Subject, Email, Actor, ActorName string

	// Doubtful rows meet every condition but that on seqs, because what they hold could not be told for sure.
	Doubtful bool
}

// Hit is where a record stands that may be wanted.
type Hit struct {
	Seq uint64
	audit.Position
}

// Condition is what rows have to meet, all of it. The zero value is met by all.
type Condition struct {
	From, To       time.Time // from From on, before To; zero for no bound
	FromSeq, ToSeq uint64    // from FromSeq on, before ToSeq; 0 for no bound

	// Columns that must have exactly this value. Empty ones are not asked for: what is absent cannot be searched for.
	Type, Code, App, Effect, Reason string
	Method, Policy, Boot            string
	RequestID, Session              string
	User                            string // one of Subject, Actor (exactly), Email, ActorName (in any case)

	Newest bool // the largest seq first
}
