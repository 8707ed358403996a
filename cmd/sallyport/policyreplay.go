package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/audit/decisions"
	"sallyport/audit/evidence"
	"sallyport/audit/filter"
	"sallyport/audit/verify"
	"sallyport/gateway/admin"
	"sallyport/policy"
	"sallyport/policy/review/corpus"
	"sallyport/policy/review/replay"
)

// replayFlags say which recorded decisions are decided again.
type replayFlags struct {
	Replay string `help:"Decide recorded requests again: of the log, \"all\", the last 24h or 7d, or FROM..TO; of an evidence bundle; or of a corpus." placeholder:"RANGE|FILE"`
	Where  string `help:"With --replay: only decisions that meet this condition, such as 'app == \"payroll\"'; sallyport audit fields lists what it can ask." placeholder:"EXPRESSION"`
	Trust  string `help:"With --replay of a bundle or a corpus: make sure that it is whole and signed by a key of this file." placeholder:"FILE" type:"path"`
}

// recorded is where recorded decisions come from.
type recorded struct {
	Name   string // for people
	source replay.Source
	policy func(ctx context.Context, digest string) (*policy.Engine, error) // nil: there is none to be had
	corpus *corpus.Corpus                                                   // nil: whole inputs
	closes []io.Closer
}

// config is a replay under two policies.
func (r *recorded) config(ctx context.Context, from, to *policy.Engine) replay.Config {
	c := replay.Config{From: from, To: to, Source: r.source, Policy: r.policy}
	if r.corpus != nil {
		c.Lacks = r.corpus.Lacks(ctx, from, to)
	}
	return c
}

// Close lets go of what is read.
func (r *recorded) Close() error {
	var err error
	for _, c := range r.closes {
		err = errors.Join(err, c.Close())
	}
	return err
}

// openRecorded finds what --replay names. A read of the live log is put on record first, as one of command.
func (in *invocation) openRecorded(command string, f replayFlags) (*recorded, error) {
	where, err := filter.Compile(f.Where)
	if err != nil {
		return nil, fmt.Errorf("--where: %w", err)
	}
	if info, err := os.Stat(f.Replay); err == nil && !info.IsDir() {
		return in.openFile(f, where)
	}
	span, err := parseSpan(f.Replay, time.Now())
	if err != nil {
		return nil, err
	}
	if f.Trust != "" {
		return nil, errors.New("--trust is about files: verify the log itself with sallyport audit verify")
	}
	return in.openLive(command, f, span, where)
}

// span is a stretch of time; zero for no bound.
type span struct{ from, to time.Time }

// parseSpan reads "all", a time up to now such as 24h or 7d, or FROM..TO, either of which may be left out.
func parseSpan(text string, now time.Time) (s span, err error) {
	if text == "all" {
		return s, nil
	}
	if from, to, ok := strings.Cut(text, ".."); ok {
		s.from, err = parseInstant(from)
		if err == nil {
			s.to, err = parseInstant(to)
		}
		if err == nil && !s.from.IsZero() && !s.to.IsZero() && !s.from.Before(s.to) {
			err = errors.New("it ends before it begins")
		}
	} else if length, bad := parseLength(text); bad != nil {
		err = errors.New("it is no file, and no range such as all, 24h, 7d or 2026-11-01..2026-12-01")
	} else {
		s.from = now.Add(-length)
	}
	if err != nil {
		return s, fmt.Errorf("--replay %q: %w", text, err)
	}
	return s, nil
}

func parseInstant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	var i instant
	err := i.UnmarshalText([]byte(text))
	return i.Time, err
}

// parseLength reads a duration; besides what Go reads, whole days and weeks.
func parseLength(text string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			return time.Duration(n) * length, err
		}
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("not in the past")
	}
	return d, err
}

// openLive opens the log that the configuration is about.
func (in *invocation) openLive(command string, f replayFlags, s span, where *filter.Filter) (*recorded, error) {
	narrowed := map[string]string{"replay": f.Replay}
	if f.Where != "" {
		narrowed["where"] = f.Where
	}
	places, err := in.announce(admin.Reading{Command: command, Log: audit.DecisionLog, Filter: narrowed})
	if err != nil {
		return nil, err
	}
	log, err := audit.OpenReader(places.Audit.Dir, audit.DecisionLog)
	if err != nil {
		return nil, err
	}
	query := decisions.Query{From: s.from, To: s.to, Match: where.MatchesRaw}
	return &recorded{
		Name:   "the log, " + f.Replay,
		source: replayed(decisions.Log(in.ctx, log, query)),
		policy: func(ctx context.Context, digest string) (*policy.Engine, error) {
			archive, err := audit.ReadPolicy(places.Audit.Dir, digest)
			if err != nil {
				return nil, err
			}
			return compileArchive(ctx, digest, archive)
		},
		closes: []io.Closer{log},
	}, nil
}

// compileArchive is the policy in an archive that was kept under a digest.
func compileArchive(ctx context.Context, digest string, archive []byte) (*policy.Engine, error) {
	bundle, err := policy.OpenArchive(archive)
	if err != nil {
		return nil, err
	}
	if bundle.Digest != digest {
		return nil, fmt.Errorf("the archive kept as %s has the digest %s", digest, bundle.Digest)
	}
	return policy.Compile(ctx, bundle)
}

// openFile opens an evidence bundle or a corpus.
func (in *invocation) openFile(f replayFlags, where *filter.Filter) (*recorded, error) {
	c, err := readCorpus(f.Replay)
	if errors.Is(err, corpus.ErrNotCorpus) {
		return in.openEvidence(f, where)
	}
	if err != nil {
		return nil, no{fmt.Errorf("%s: %w", f.Replay, err)}
	}
	if f.Where != "" {
		return nil, errors.New("--where asks about records, which a corpus does not hold")
	}
	if f.Trust != "" {
		trust, err := readTrust(f.Trust, nil)
		if err != nil {
			return nil, err
		}
		if report := checkCorpus(c, trust); report.Result != verify.Pass {
			return nil, no{fmt.Errorf("%s: %s", f.Replay, report.Why)}
		}
	}
	name := fmt.Sprintf("the corpus %s of %s", f.Replay, c.Header.Created.Format(time.DateOnly))
	return &recorded{Name: name, source: c.Source(), corpus: c}, nil
}

func readCorpus(name string) (*corpus.Corpus, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return corpus.Read(file)
}

func (in *invocation) openEvidence(f replayFlags, where *filter.Filter) (*recorded, error) {
	if f.Trust != "" {
		if err := in.trusted(f); err != nil {
			return nil, err
		}
	}
	bundle, err := evidence.Open(f.Replay)
	if errors.Is(err, evidence.ErrNotBundle) {
		return nil, fmt.Errorf("%s is neither an evidence bundle nor a corpus", f.Replay)
	}
	if err != nil {
		return nil, no{fmt.Errorf("%s: %w", f.Replay, err)}
	}
	return &recorded{
		Name:   "the evidence bundle " + f.Replay,
		source: replayed(decisions.Records(bundleLines(in.ctx, bundle), decisions.Query{Match: where.MatchesRaw})),
		policy: func(ctx context.Context, digest string) (*policy.Engine, error) {
			archive, err := bundle.Policy(digest)
			if err != nil {
				return nil, err
			}
			return compileArchive(ctx, digest, archive)
		},
		closes: []io.Closer{bundle},
	}, nil
}

// trusted verifies an evidence bundle.
func (in *invocation) trusted(f replayFlags) error {
	trust, err := readTrust(f.Trust, nil)
	if err != nil {
		return err
	}
	report, err := verify.Run(in.ctx, f.Replay, verify.Options{Trust: trust})
	if err != nil {
		return err
	}
	if report.Result != verify.Pass {
		return no{fmt.Errorf("%s: %s: see sallyport audit verify", f.Replay, report.Result)}
	}
	return nil
}

// bundleLines are the records of a bundle that are not withheld.
func bundleLines(ctx context.Context, bundle *evidence.Bundle) decisions.Lines {
	return func(yield func([]byte, error) bool) {
		for leaf, err := range bundle.Records(audit.DecisionLog) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err == nil && leaf.Raw == nil {
				continue
			}
			if !yield(leaf.Raw, err) || err != nil {
				return
			}
		}
	}
}

// replayed is decisions as what a replay reads.
func replayed(source iter.Seq2[decisions.Batch, error]) replay.Source {
	return func(yield func(replay.Batch, error) bool) {
		for batch, err := range source {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(recordsOf(batch), nil) {
				return
			}
		}
	}
}

func recordsOf(batch decisions.Batch) replay.Batch {
	return func(yield func(replay.Record) bool) {
		for d := range batch {
			r := replay.Record{
				ID: d.ID, Time: d.Time, App: d.App, Policy: d.Policy, Input: d.Input, Changed: d.Changed,
				Allow: d.Allow, Reason: d.Reason, Decision: d.Decision, Unusable: d.Unusable, Refused: d.Unusable == decisions.Unasked,
			}
			if !yield(r) {
				return
			}
		}
	}
}

// isCorpus tells a corpus from other files.
func isCorpus(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	start := make([]byte, 64)
	n, err := io.ReadFull(file, start)
	return (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) && corpus.Is(start[:n])
}
