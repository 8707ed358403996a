// Package decisions reads from a log what policies were asked and what they answered: hundreds of thousands of records a
// second, so that a year can be decided again.
//
// [Log] reads a log, [Records] any sequence of its lines, such as those of an evidence bundle. Both yield batches, which
// are taken apart by whoever goes through them, several at once. A record of a decision that was taken again holds only what
// had changed since the first one, which may be far before it: what is asked for comes with the first one's input, from a
// second reading where there are such records.
//
// It judges nothing: neither whether the log is whole (audit/verify) nor what is answered (policy).
package decisions

import (
	"context"
	"iter"
	"time"

	"sallyport/audit"
)

// Decision is what one record says. Its bytes last until the next one.
type Decision struct {
	ID       string
	Time     time.Time
	App      string
	Policy   string // the digest
	Input    []byte // JSON; of a decision that was taken again, the first one's
	Changed  []byte // the JSON Merge Patch (RFC 7396) on Input of a decision that was taken again; else nil
	Allow    bool
	Reason   string
	Decision []byte // the decision document
	Unusable string // why it cannot be decided again; empty: it can
}

// What stands in Unusable.
const (
	Unasked    = "refused before a policy was asked"
	Unreadable = "the record cannot be read"
	Firstless  = "the decision that was taken again is not in the log, or not any more"
)

// Batch is some hundred decisions, to be gone through once.
type Batch = iter.Seq[Decision]

// Query says which decisions of a log are wanted.
type Query struct {
	From, To time.Time              // made at From or later, and before To; zero for no bound
	Match    func(line []byte) bool // of these, those whose record's JSON it chooses, asked from several goroutines; nil: all
}

func (q *Query) chooses(line []byte) bool { return q.Match == nil || q.Match(line) }

// Lines yields a log's records as their JSON, in order, from the first on; each until the next one. It may be asked for
// twice.
type Lines = iter.Seq2[[]byte, error]

// Log yields the decisions of a log.
func Log(ctx context.Context, log *audit.Reader, q Query) iter.Seq2[Batch, error] {
	return Records(func(yield func([]byte, error) bool) {
		for line, err := range log.Lines(ctx, 0) {
			if !yield(line.Raw, err) || err != nil {
				return
			}
		}
	}, q)
}

// Records yields the decisions among records. Decisions that were taken again come last.
func Records(lines Lines, q Query) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		r := &reading{lines: lines, query: q, yield: yield}
		if err := r.read(); err != nil && err != errEnough {
			yield(nil, err)
		}
	}
}
