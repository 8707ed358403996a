package verify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"sallyport/audit/evidence"
	"sallyport/audit/filter"
	"sallyport/audit/tree"
)

// bundleCheck checks an evidence bundle.
type bundleCheck struct {
	*run
	bundle   *evidence.Bundle
	manifest *evidence.Manifest
	query    *filter.Filter // nil when every record is the answer, or the query is nobody's
	trusted  bool           // the manifest is signed by a key that is trusted
}

// bundle checks an evidence bundle. What is altered is tampering; what is listed and absent makes it incomplete.
func (r *run) bundle() error {
	b, err := evidence.Open(r.path)
	switch {
	case errors.Is(err, evidence.ErrAltered):
		r.report.add(Finding{Severity: Tampered, Class: ClassBundle, Text: err.Error()})
		return nil
	case errors.Is(err, evidence.ErrIncomplete):
		r.report.add(Finding{Severity: Incomplete, Class: ClassBundle, Text: err.Error()})
		return nil
	case err != nil:
		return err
	}
	defer b.Close()
	x := &bundleCheck{run: r, bundle: b, manifest: b.Manifest()}
	r.judges.archive = x.policy
	return x.check()
}

func (x *bundleCheck) check() error {
	m := x.manifest
	x.report.Bundle = &BundleReport{Created: m.Created, Who: m.Who, Query: m.Query, From: m.From, To: m.To}
	for i := range m.Files {
		x.total += m.Files[i].Size
	}
	x.signature()
	for _, p := range x.bundle.CheckFiles() {
		if !x.skip.files {
			x.problem("", &p)
		}
	}
	if m.Query != "" && x.trusted {
		f, err := filter.Compile(m.Query)
		if err != nil {
			x.add(Tampered, "", "the query of the bundle cannot be read: %v", err)
		}
		x.query = f
	}
	for i := range m.Logs {
		l := &bundleLog{bundleCheck: x, LogManifest: &m.Logs[i], counts: map[[2]string]*evidence.Count{}}
		if err := l.check(); err != nil {
			return err
		}
		x.report.Logs = append(x.report.Logs, &l.out)
		x.report.Bundle.Matching += l.Matching
		x.report.Bundle.Withheld += l.Withheld
	}
	x.comparePolicies()
	if n := len(m.MissingPolicies); n > 0 && x.opts.Rederive == nil {
		x.add(Pass, "", "%d policy archives were not kept, and are not in the bundle: their decisions cannot be decided again", n)
	}
	x.judges.missing()
	return nil
}

// comparePolicies compares every policy archive with the digest that is its name. Files that are missing or changed are
// reported as such.
func (x *bundleCheck) comparePolicies() {
	for _, digest := range x.manifest.Policies {
		archive, err := x.bundle.Policy(digest)
		if err != nil || x.skip.policies {
			continue
		}
		x.report.Policies++
		if sum := sha256.Sum256(archive); digest != "sha256:"+hex.EncodeToString(sum[:]) {
			x.report.add(Finding{Severity: Tampered, Class: ClassPolicy, Text: fmt.Sprintf("the policy archive %s does not have that digest", digest)})
		}
	}
}

func (x *bundleCheck) add(severity Result, log, format string, args ...any) {
	x.report.add(Finding{Severity: severity, Class: ClassBundle, Log: log, Text: fmt.Sprintf(format, args...)})
}

// signature checks who signed the manifest. That the note is about this manifest was checked when it was read.
func (x *bundleCheck) signature() {
	note := x.bundle.Note()
	if note == nil {
		return // reported with the other files
	}
	text, names, err := x.openManifest(note)
	switch {
	case errors.Is(err, tree.ErrUntrusted):
		x.report.add(Finding{Severity: Untrusted, Class: ClassSignature, File: evidence.NoteName, Text: fmt.Sprintf("the manifest is signed by nobody who is trusted: %v", err)})
		return
	case err != nil:
		x.report.add(Finding{Severity: Tampered, Class: ClassSignature, File: evidence.NoteName, Text: fmt.Sprintf("the manifest is not what was signed: %v", err)})
		return
	}
	name, _, err := evidence.ParseNoteText(string(text))
	if err != nil || !slices.Contains(names, name) {
		x.report.add(Finding{Severity: Untrusted, Class: ClassSignature, File: evidence.NoteName, Text: fmt.Sprintf("the manifest is not signed by the key it names: %q by %q", name, names)})
		return
	}
	x.trusted = true
	x.report.Bundle.SignedBy = name
}

func (x *bundleCheck) openManifest(note []byte) (text []byte, names []string, err error) {
	if x.skip.manifest {
		body, _, _ := strings.Cut(string(note), "\n\n")
		name, _, _ := strings.Cut(body, "\n")
		return []byte(body + "\n"), []string{name}, nil
	}
	if x.opts.Trust == nil {
		return nil, nil, tree.ErrUntrusted
	}
	return x.opts.Trust.OpenNote(note)
}

// problem is the finding about a file that is not as the manifest says.
func (x *bundleCheck) problem(log string, err error) {
	severity, file := Tampered, ""
	if p, ok := errors.AsType[*evidence.Problem](err); ok {
		file = p.Name
		if p.Kind == evidence.Missing {
			severity = Incomplete
		}
	}
	f := Finding{Severity: severity, Class: ClassBundle, Log: log, File: file, Text: "in the bundle: " + err.Error()}
	if !slices.ContainsFunc(x.report.Findings, func(g Finding) bool { return g.File == file && g.Class == ClassBundle && file != "" }) {
		x.report.add(f)
	}
}

// policy returns the archive with that digest.
func (x *bundleCheck) policy(digest string) ([]byte, error) {
	archive, err := x.bundle.Policy(digest)
	if p, ok := errors.AsType[*evidence.Problem](err); ok && p.Kind == evidence.Missing {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return archive, err
}

// bundleLog checks what a bundle holds of one log.
type bundleLog struct {
	*bundleCheck
	*evidence.LogManifest
	out      LogReport
	grow     growing
	claims   []claim
	counts   map[[2]string]*evidence.Count
	read     uint64 // records
	inPeriod uint64
	withheld uint64
	unread   bool // a part could not be read
	again    again
}

func (l *bundleLog) check() error {
	l.out = LogReport{Log: l.Log, Origin: l.Origin, First: l.First, Size: l.End}
	root, signed := l.checkpoint()
	proof, err := l.bundle.RangeProof(l.Log)
	if err != nil {
		l.problem(l.Log, err)
	}
	start, startErr := proof.Start()
	if err == nil && startErr != nil {
		l.add(Tampered, l.Log, "the %s log: %v", l.Log, startErr)
	}
	proven := err == nil && startErr == nil
	if !proven {
		start = tree.Frontier{}
	}
	l.grow.restart(&start)
	l.claims = l.receipts(l.Log)
	slices.SortFunc(l.claims, func(a, b claim) int { return cmp.Compare(a.size, b.size) })
	if err := l.readParts(proven); err != nil {
		return err
	}
	if proven && !l.unread {
		l.root(proof, root, signed)
	}
	if !l.unread {
		l.recount()
	}
	l.covers()
	l.rederiveAgain()
	return nil
}

// checkpoint opens the signed checkpoint of the log.
func (l *bundleLog) checkpoint() (root tree.Hash, signed bool) {
	note, err := l.bundle.Checkpoint(l.Log)
	if err != nil {
		l.problem(l.Log, err)
		return root, false
	}
	reader := &logCheck{run: l.run, name: l.Log}
	c, cp, f := reader.open(note, "checkpoints/"+l.Log)
	switch {
	case f != nil:
		l.report.add(*f)
		return root, false
	case c.size != l.Size || cp.Origin != l.Origin:
		l.add(Tampered, l.Log, "the checkpoint is of %d records of %s, and the manifest says %d of %s", c.size, cp.Origin, l.Size, l.Origin)
		return root, false
	}
	l.out.Newest = &Checkpoint{Origin: cp.Origin, Size: c.size, Root: c.root, From: "checkpoints/" + l.Log}
	return c.root, true
}

// root compares the proven root with the signed one.
func (l *bundleLog) root(proof tree.RangeProof, root tree.Hash, signed bool) {
	got, err := proof.Root(l.grow.frontier())
	switch {
	case l.skip.proofs:
	case err != nil:
		l.add(Tampered, l.Log, "the records of the %s log: %v", l.Log, err)
	case signed && got != root:
		l.add(Tampered, l.Log, "the records of the %s log with their proof have the root %s; signed is %s", l.Log, got, root)
	case signed:
		l.out.Signed, l.out.Checkpoints = l.Size, l.out.Checkpoints+1
	}
}

// readParts reads the records, several parts at a time, and takes them in in their order.
func (l *bundleLog) readParts(proven bool) error {
	queue := make(chan chan *partResult, l.opts.Workers)
	go func() {
		defer close(queue)
		for i := range l.Parts {
			done := make(chan *partResult, 1)
			select {
			case queue <- done:
			case <-l.ctx.Done():
				return
			}
			go func() { done <- l.readPart(&l.Parts[i]) }()
		}
	}()
	for done := range queue {
		l.take(<-done, proven)
	}
	return l.ctx.Err()
}

// partResult is what was found in one part.
type partResult struct {
	part     *evidence.Part
	leaves   []tree.Hash
	counts   map[[2]string]*evidence.Count
	inPeriod uint64
	withheld uint64
	found    []Finding
	from, to time.Time
	judged   uint64
	again    []uuid.UUID
	err      error
}

// take adds a part to the log.
func (l *bundleLog) take(p *partResult, proven bool) {
	if p.err != nil {
		l.problem(l.Log, p.err)
		l.unread = true
		return
	}
	for _, f := range p.found {
		l.report.add(f)
	}
	for _, leaf := range p.leaves {
		l.due(proven)
		l.grow.leaf(leaf)
	}
	l.due(proven)
	for key, c := range p.counts {
		if l.counts[key] == nil {
			l.counts[key] = &evidence.Count{Type: c.Type, Effect: c.Effect}
		}
		l.counts[key].Records += c.Records
		l.counts[key].Matching += c.Matching
	}
	for _, id := range p.again {
		if l.again == nil {
			l.again = make(again)
		}
		l.again[id]++
	}
	l.read += uint64(len(p.leaves))
	l.inPeriod += p.inPeriod
	l.withheld += p.withheld
	l.report.Records += uint64(len(p.leaves))
	l.report.Rederived += p.judged
	if l.out.From.IsZero() {
		l.out.From = p.from
	}
	if !p.to.IsZero() {
		l.out.To = p.to
	}
	for i := range l.manifest.Files {
		if f := &l.manifest.Files[i]; f.Name == p.part.File {
			l.done += f.Size
			l.report.Bytes += f.Size
		}
	}
	if time.Since(l.shown) > progressEvery {
		l.progress(false)
	}
}

// due compares receipts with the tree, where the bundle's records come to their size.
func (l *bundleLog) due(proven bool) {
	for ; len(l.claims) > 0 && l.claims[0].size <= l.grow.size; l.claims = l.claims[1:] {
		c := l.claims[0]
		if !proven || l.unread || c.size != l.grow.size || l.skip.receipts {
			continue
		}
		if root := l.grow.root(); root != c.root {
			l.report.add(Finding{Severity: Tampered, Class: ClassRoot, Log: l.Log, Seq: c.size, Text: fmt.Sprintf(
				"the receipt at line %d of the trust file is signed for %d records of the %s log with root %s; those of the bundle have root %s", c.place, c.size, l.Log, c.root, root)})
			continue
		}
		l.out.Receipts++
	}
}

// recount compares what the manifest counts with what is there. Of records that are withheld nothing can be counted.
func (l *bundleLog) recount() {
	wrong := func(what string, stated, counted uint64) {
		if stated != counted && !l.skip.counts {
			l.add(Tampered, l.Log, "the manifest counts %d %s in the %s log, and there are %d", stated, what, l.Log, counted)
		}
	}
	wrong("withheld records", l.Withheld, l.withheld)
	wrong("records", l.Records, l.read)
	var matching uint64
	for _, c := range l.counts {
		matching += c.Matching
	}
	wrong("matches", l.Matching, matching)
	for _, c := range l.Counts {
		have := l.counts[[2]string{c.Type, c.Effect}]
		if have == nil {
			have = new(evidence.Count)
		}
		delete(l.counts, [2]string{c.Type, c.Effect})
		name := fmt.Sprintf("records of type %q and effect %q", c.Type, c.Effect)
		wrong("matching "+name, c.Matching, have.Matching)
		if l.Withheld == 0 {
			wrong(name, c.Records, have.Records)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.counts), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		wrong(fmt.Sprintf("records of type %q and effect %q", key[0], key[1]), 0, l.counts[key].Records)
	}
	if l.Withheld == 0 {
		wrong("records of the period", l.InPeriod, l.inPeriod)
	}
}

// covers checks that the range reaches as far as what was asked for.
func (l *bundleLog) covers() {
	m := l.manifest
	if l.skip.period {
		return
	}
	if m.From.IsZero() && l.First != l.Oldest || m.To.IsZero() && l.End != l.Size {
		l.add(Tampered, l.Log, "the bundle holds records %d to %d of the %s log, and all from %d to %d were asked for", l.First, l.End, l.Log, l.Oldest, l.Size)
	}
	if l.Oldest > 0 && l.First == l.Oldest {
		l.report.Gaps = append(l.report.Gaps, Gap{Log: l.Log, Class: ClassPruned, End: l.First})
		l.report.add(Finding{Severity: Gaps, Class: ClassPruned, Log: l.Log, Text: fmt.Sprintf("the %s log had no records before %d any more when the bundle was made", l.Log, l.First)})
	}
}
