package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/audit/tree"
	"sallyport/gateway/config"
)

// auditSource is an audit directory as bundles, proofs and static folders are made of it. It is only read, and all that it
// says of a log's tree is about one moment: the newest signed checkpoint when it was first asked for.
type auditSource struct {
	dir   string
	logs  map[string]*audit.Reader
	trees map[string]*audit.Tree
}

func openSource(dir string) (_ *auditSource, err error) {
	s := &auditSource{dir: dir, logs: map[string]*audit.Reader{}, trees: map[string]*audit.Tree{}}
	for _, log := range logsOf("both") {
		if s.logs[log], err = audit.OpenReader(dir, log); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close closes what is open.
func (s *auditSource) Close() (err error) {
	for _, reader := range s.logs {
		if reader != nil {
			err = errors.Join(err, reader.Close())
		}
	}
	return err
}

// tree is a log's tree as its newest checkpoint has it.
func (s *auditSource) tree(log string) (t *audit.Tree, err error) {
	if t = s.trees[log]; t != nil {
		return t, nil
	}
	t, err = s.logs[log].Tree()
	if errors.Is(err, audit.ErrNoCheckpoint) {
		return nil, no{fmt.Errorf("the %s log has no signed checkpoint yet", log)}
	}
	if err != nil {
		return nil, err
	}
	s.trees[log] = t
	return t, nil
}

// Checkpoint is the newest signed checkpoint of a log. Its signature is for those to check who have the keys.
func (s *auditSource) Checkpoint(log string) (signed []byte, c tree.Checkpoint, err error) {
	t, err := s.tree(log)
	if err != nil {
		return nil, c, err
	}
	signed, c = t.Checkpoint()
	return signed, c, nil
}

// Oldest is the oldest record that was not pruned.
func (s *auditSource) Oldest(log string) (uint64, error) {
	bounds, err := s.logs[log].Bounds()
	return bounds.First, err
}

// Near narrows a period to what can hold it.
func (s *auditSource) Near(ctx context.Context, log string, from, to time.Time, size uint64) (first, end uint64, err error) {
	first, err = s.Oldest(log)
	return first, size, err
}

// Records yields records as they are stored.
func (s *auditSource) Records(ctx context.Context, log string, first, end uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if first >= end {
			return
		}
		for line, err := range s.logs[log].Lines(ctx, first) {
			if !yield(line.Raw, err) || err != nil || line.Seq+1 == end {
				return
			}
		}
	}
}

// RangeProof leads from some records to the signed root.
func (s *auditSource) RangeProof(log string, first, end, _ uint64) (tree.RangeProof, error) {
	t, err := s.tree(log)
	if err != nil {
		return tree.RangeProof{}, err
	}
	return t.Range(context.Background(), first, end)
}

// Policy is a policy archive.
func (s *auditSource) Policy(digest string) ([]byte, error) { return audit.ReadPolicy(s.dir, digest) }

// find returns the record with that id, or at LOG:SEQ. An id tells when it was made (RFC 9562 §5.7), which spares reading the
// whole log where there is a searchable copy.
func (s *auditSource) find(in *invocation, places config.Places, id string) (log string, found audit.Entry, err error) {
	for _, log := range logsOf("both") {
		number, is := strings.CutPrefix(id, log+":")
		if !is {
			continue
		}
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return "", found, fmt.Errorf("%q is no LOG:SEQ such as decision:1041", id)
		}
		found, err = s.logs[log].Get(in.ctx, seq)
		if errors.Is(err, audit.ErrNoRecord) {
			err = no{err}
		}
		return log, found, err
	}
	where, err := withID(id)
	if err != nil {
		return "", found, err
	}
	for _, log := range logsOf("both") {
		for entry, err := range in.query(s.logs[log], places, log, where, 1) {
			return log, entry, err
		}
	}
	return "", found, no{fmt.Errorf("there is no record %q", id)}
}

// withID chooses the record with an id.
func withID(id string) (*filter.Filter, error) {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.Version() != 7 {
		return nil, fmt.Errorf("%q is no record's id, and not LOG:SEQ such as decision:1041", id)
	}
	seconds, nanoseconds := parsed.Time().UnixTime()
	made := time.Unix(seconds, nanoseconds)
	when, err := filter.From(audit.Filter{From: made.Add(-time.Second), To: made.Add(time.Second)})
	if err != nil {
		return nil, err
	}
	what, err := filter.Compile("id == " + filter.Quote(id))
	if err != nil {
		return nil, err
	}
	return filter.And(when, what)
}
