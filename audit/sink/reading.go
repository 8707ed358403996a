package sink

import (
	"context"
	"iter"

	"sallyport/audit"
)

// Reading is a log of the running gateway, read by r, which is not closed.
func Reading(l *audit.Log, r *audit.Reader) Log { return reading{l, r} }

type reading struct {
	log    *audit.Log
	reader *audit.Reader
}

func (r reading) Name() string { return r.log.Name() }
func (r reading) Next() uint64 { return r.log.Records() }

func (r reading) First(context.Context) (uint64, error) {
	b, err := r.reader.Bounds()
	return b.First, err
}

func (r reading) From(ctx context.Context, seq uint64) iter.Seq2[audit.Entry, error] {
	return r.reader.Follow(ctx, audit.Filter{FromSeq: seq})
}
