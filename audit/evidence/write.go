package evidence

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/audit"
	"sallyport/audit/tree"
)

// Options say what goes into a bundle. The same options and the same source make the same bytes.
type Options struct {
	// From and To are the period: records with a time at or after From and before To. Zero is open.
	From, To time.Time
	// Logs are the logs to take from. Default: both.
	Logs []string
	// Query is which records of the period are the answer, as text for the manifest. Match is the same for the bytes of
	// a record; it is called from several goroutines at once. Nil: all of them.
	Query string
	Match func(raw []byte) bool
	// OnlyMatching leaves of every other record only its leaf hash. Without it all records of the range are there, and
	// the bundle marks which are the answer.
	OnlyMatching bool
	// Created and Who are when and for whom the bundle is made, as the manifest is to say it.
	Created time.Time
	Who     string
	// Program names what writes it, such as "sallyport 1.4.0".
	Program string
	// Sign has the key process sign the manifest with that SHA-256 by its manifest key: it returns the signed note over
	// NoteText. Required.
	Sign func(sum [sha256.Size]byte) (note []byte, err error)
	// Progress, when set, is told now and then how many records of how many were written.
	Progress func(done, total uint64)

	partSize int // partSize when 0; tests make smaller parts
}

func (o *Options) period() period { return period{o.From, o.To} }

// writing is one bundle in the making.
type writing struct {
	src      Source
	opts     *Options
	zip      *zipWriter
	manifest Manifest
	packer   *packer // for everything but records
	policies map[string]bool
	done     uint64
	total    uint64
}

// Write writes a bundle to w and returns its manifest. After an error, what w got is no bundle.
//
// It reads each record once or, where a period is given, twice, and holds a few parts of 8 MiB in memory at any time.
// Records that do not give the signed root are an error: what is written verifies.
func Write(ctx context.Context, w io.Writer, src Source, opts Options) (Manifest, error) {
	if opts.Sign == nil {
		return Manifest{}, errors.New("writing an evidence bundle: nobody signs it")
	}
	if opts.Match != nil && opts.Query == "" || opts.Match == nil && opts.Query != "" {
		return Manifest{}, errors.New("writing an evidence bundle: a query is both its text and what matches")
	}
	x := &writing{src: src, opts: &opts, zip: &zipWriter{w: w}, packer: newPacker(&opts), policies: map[string]bool{}}
	if err := x.write(ctx); err != nil {
		return Manifest{}, fmt.Errorf("writing an evidence bundle: %w", err)
	}
	return x.manifest, nil
}

func (x *writing) write(ctx context.Context) error {
	x.manifest = Manifest{Format: formatName, Version: Version, RecordVersion: audit.Version, Program: x.opts.Program,
		Created: x.opts.Created.UTC(), Who: x.opts.Who, From: utc(x.opts.From), To: utc(x.opts.To), Query: x.opts.Query,
		OnlyMatching: x.opts.OnlyMatching, Logs: []LogManifest{}, Policies: []string{}}
	logs, err := x.begin(ctx)
	if err != nil {
		return err
	}
	for _, l := range logs {
		if err := x.log(ctx, l); err != nil {
			return err
		}
	}
	if err := x.keepPolicies(); err != nil {
		return err
	}
	return x.finish()
}

// utc is a time as the manifest writes it; the zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// logWriting is one log of a bundle in the making.
type logWriting struct {
	name   string
	signed []byte
	proof  tree.RangeProof
	root   tree.Checkpoint
	extent extent
	tree   tree.Frontier // of the leaves up to what was written
}

// begin finds out what of each log the bundle holds.
func (x *writing) begin(ctx context.Context) ([]*logWriting, error) {
	names := slices.Clone(x.opts.Logs)
	if len(names) == 0 {
		names = []string{audit.ControlLog, audit.DecisionLog}
	}
	slices.Sort(names)
	var logs []*logWriting
	for _, name := range slices.Compact(names) {
		l := &logWriting{name: name}
		var err error
		if l.signed, l.root, err = x.src.Checkpoint(name); err == nil {
			l.extent, err = findExtent(ctx, x.src, name, l.root.Size, x.opts.period())
		}
		if err == nil {
			l.proof, err = x.src.RangeProof(name, l.extent.first, l.extent.end, l.root.Size)
		}
		if err == nil {
			l.tree, err = l.proof.Start()
		}
		if err != nil {
			return nil, fmt.Errorf("%s log: %w", name, err)
		}
		x.total += l.extent.end - l.extent.first
		logs = append(logs, l)
	}
	return logs, nil
}

// log writes all there is of one log.
func (x *writing) log(ctx context.Context, l *logWriting) error {
	m := LogManifest{Log: l.name, Origin: l.root.Origin, Size: l.root.Size, Oldest: l.extent.oldest, First: l.extent.first,
		End: l.extent.end, Records: l.extent.end - l.extent.first, Counts: []Count{}, Parts: []Part{}}
	if err := x.add(x.packer.pack(checkpointName(l.name), l.signed)); err != nil {
		return err
	}
	if err := x.add(x.packer.pack(proofName(l.name), encodeProof(l.proof))); err != nil {
		return err
	}
	if err := x.records(ctx, l, &m); err != nil {
		return err
	}
	if x.opts.OnlyMatching {
		m.Withheld = m.Records - m.Matching
	}
	x.manifest.Logs = append(x.manifest.Logs, m)
	return nil
}

// records writes the parts: one goroutine reads, some pack, and this one writes in order.
func (x *writing) records(ctx context.Context, l *logWriting, m *LogManifest) error {
	workers := min(max(1, runtime.GOMAXPROCS(0)), 8)
	queue := make(chan *job, workers) // in the order of the log
	work := make(chan *job, workers)
	free := make(chan []byte, 2*workers+2)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(queue)
		defer close(work)
		return x.split(ctx, l, free, func(j *job) error {
			for _, to := range []chan<- *job{work, queue} {
				select {
				case to <- j:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range workers {
		g.Go(func() error {
			p := newPacker(x.opts)
			for j := range work {
				p.do(j)
			}
			return nil
		})
	}
	g.Go(func() error { return x.collect(l, m, queue, free) })
	if err := g.Wait(); err != nil {
		return err
	}
	return l.proven()
}

// proven makes sure that nobody is handed evidence that does not verify.
func (l *logWriting) proven() error {
	root, err := l.proof.Root(l.tree)
	if err == nil && root != l.root.Root {
		err = errors.New("they give another root than the one that was signed: verify the audit directory")
	}
	if err != nil {
		return fmt.Errorf("%s log, records %d to %d: %w", l.name, l.extent.first, l.extent.end, err)
	}
	return nil
}

// split makes jobs of a log's records.
func (x *writing) split(ctx context.Context, l *logWriting, free <-chan []byte, send func(*job) error) error {
	size := cmp.Or(x.opts.partSize, partSize)
	var j *job
	next := l.extent.first
	for raw, err := range x.src.Records(ctx, l.name, l.extent.first, l.extent.end) {
		if err != nil {
			return err
		}
		if len(raw) == 0 || len(raw) > audit.MaxRecord || raw[0] != '{' || slices.Contains(raw, '\n') {
			return fmt.Errorf("%s log: record %d is none", l.name, next)
		}
		if j == nil {
			j = &job{log: l.name, first: next, done: make(chan struct{})}
			select {
			case j.text = <-free:
				j.text = j.text[:0]
			default:
				j.text = make([]byte, 0, size+audit.MaxRecord)
			}
		}
		j.text = append(append(j.text, raw...), '\n')
		j.records++
		next++
		if len(j.text) >= size || j.records == partRecords {
			if err := send(j); err != nil {
				return err
			}
			j = nil
		}
	}
	if next != l.extent.end {
		return fmt.Errorf("%s log: records end at %d, wanted up to %d", l.name, next, l.extent.end)
	}
	if j == nil {
		return nil
	}
	return send(j)
}

// collect writes what the workers packed, and adds up what they found.
func (x *writing) collect(l *logWriting, m *LogManifest, queue <-chan *job, free chan<- []byte) error {
	counts := tally{}
	for j := range queue {
		<-j.done
		if j.err != nil {
			return j.err
		}
		for _, f := range j.files {
			if err := x.add(f); err != nil {
				return err
			}
		}
		for _, leaf := range j.leaves {
			l.tree.Append(leaf)
		}
		counts.merge(j.counts)
		for digest := range j.policies {
			x.policies[digest] = true
		}
		m.Parts = append(m.Parts, j.part)
		m.InPeriod += j.inPeriod
		m.Matching += j.part.Matching
		x.progress(j.records)
		select {
		case free <- j.text:
		default:
		}
	}
	m.Counts = counts.list()
	return nil
}

func (x *writing) progress(records uint64) {
	x.done += records
	if x.opts.Progress != nil {
		x.opts.Progress(x.done, x.total)
	}
}

// keepPolicies writes the archives of all policies that the records name.
func (x *writing) keepPolicies() error {
	for _, digest := range sortedKeys(x.policies) {
		name, err := policyName(digest)
		if err != nil {
			continue // not a digest that anything could be kept under; the record says so itself
		}
		archive, err := x.src.Policy(digest)
		if errors.Is(err, fs.ErrNotExist) {
			x.manifest.MissingPolicies = append(x.manifest.MissingPolicies, digest)
			continue
		}
		if err == nil && len(archive) > maxPolicy {
			err = fmt.Errorf("%d bytes, more than %d", len(archive), maxPolicy)
		}
		if err != nil {
			return fmt.Errorf("policy archive %s: %w", digest, err)
		}
		x.manifest.Policies = append(x.manifest.Policies, digest)
		if err := x.add(x.packer.pack(name, archive)); err != nil {
			return err
		}
	}
	return nil
}

// finish writes what is for people, the manifest and its note.
func (x *writing) finish() error {
	for name, text := range x.forPeople() {
		if err := x.add(x.packer.pack(name, text)); err != nil {
			return err
		}
	}
	text, err := x.manifest.encode()
	if err != nil {
		return err
	}
	if err := x.manifest.check(); err != nil {
		panic("BUG: evidence manifest: " + err.Error())
	}
	note, err := x.opts.Sign(sha256.Sum256(text))
	if err == nil {
		err = checkNote(note, text)
	}
	if err != nil {
		return fmt.Errorf("signing the manifest: %w", err)
	}
	manifest := newPacked(ManifestName, methodStore, text, text)
	signature := newPacked(NoteName, methodStore, note, note)
	return errors.Join(x.zip.add(manifest.member, manifest.bytes), x.zip.add(signature.member, signature.bytes), x.zip.close())
}

// forPeople are the files that programs do not read.
func (x *writing) forPeople() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		_ = yield(SchemaName, recordSchema) && yield(ReadmeName, x.manifest.readme()) && yield(SummaryName, x.manifest.summary())
	}
}

// add writes a file that the manifest lists.
func (x *writing) add(f packedFile) error {
	x.manifest.Files = append(x.manifest.Files, f.file)
	return x.zip.add(f.member, f.bytes)
}
