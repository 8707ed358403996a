package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/filter"
	"sallyport/audit/tree"
	"sallyport/gateway/config"
)

// auditSource is an audit directory as bundles, proofs and static folders are made of it. It is only read.
type auditSource struct {
	dir  string
	root *os.Root
	logs map[string]*audit.Reader

	checkpoints map[string]*signedCheckpoint // the newest when it was first asked for: one answer is about one moment
}

type signedCheckpoint struct {
	tree.Checkpoint
	note []byte
}

func openSource(dir string) (_ *auditSource, err error) {
	s := &auditSource{dir: dir, logs: map[string]*audit.Reader{}, checkpoints: map[string]*signedCheckpoint{}}
	if s.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	for _, log := range logsOf("both") {
		if s.logs[log], err = audit.OpenReader(dir, log); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Close closes what is open.
func (s *auditSource) Close() error {
	err := s.root.Close()
	for _, reader := range s.logs {
		if reader != nil {
			err = errors.Join(err, reader.Close())
		}
	}
	return err
}

// Checkpoint is the newest signed checkpoint of a log. Its signature is for those to check who have the keys.
func (s *auditSource) Checkpoint(log string) (signed []byte, c tree.Checkpoint, err error) {
	if known := s.checkpoints[log]; known != nil {
		return known.note, known.Checkpoint, nil
	}
	signed, err = s.root.ReadFile(filepath.Join(log, "tree", "checkpoint"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c, no{fmt.Errorf("the %s log has no signed checkpoint", log)}
	}
	if err != nil {
		return nil, c, err
	}
	body, _, _ := bytes.Cut(signed, []byte("\n\n"))
	if c, err = tree.ParseCheckpointBody(append(slices.Clone(body), '\n')); err != nil {
		return nil, c, fmt.Errorf("checkpoint of the %s log: %w", log, err)
	}
	s.checkpoints[log] = &signedCheckpoint{c, signed}
	return signed, c, nil
}

// prover proves things of the tree that a checkpoint is about.
func (s *auditSource) prover(log string, c tree.Checkpoint) (*tree.Prover, error) {
	root, err := s.root.OpenRoot(filepath.Join(log, "tree"))
	if err != nil {
		return nil, err
	}
	bounds, err := s.logs[log].Bounds()
	if err != nil {
		return nil, err
	}
	p := &tree.Prover{Files: tree.RootFiles(root), Size: c.Size, Root: c.Root}
	if bounds.Header != nil {
		p.Base = bounds.Header.Before
	}
	return p, nil
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
func (s *auditSource) RangeProof(log string, first, end, size uint64) (tree.RangeProof, error) {
	_, c, err := s.Checkpoint(log)
	if err != nil {
		return tree.RangeProof{}, err
	}
	prover, err := s.prover(log, c)
	if err != nil {
		return tree.RangeProof{}, err
	}
	return prover.Range(first, end)
}

// Policy is a policy archive.
func (s *auditSource) Policy(digest string) ([]byte, error) { return audit.ReadPolicy(s.dir, digest) }

// find returns the record with that id, or at LOG:SEQ. An id tells when it was made (RFC 9562 §5.7), which spares reading the
// whole log where there is a searchable copy.
func (s *auditSource) find(in *invocation, places config.Places, id string) (log string, found audit.Entry, err error) {
	for _, log := range logsOf("both") {
		var seq uint64
		if n, _ := fmt.Sscanf(id, log+":%d", &seq); n == 1 {
			found, err = s.logs[log].Get(in.ctx, seq)
			if errors.Is(err, audit.ErrNoRecord) {
				err = no{err}
			}
			return log, found, err
		}
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
