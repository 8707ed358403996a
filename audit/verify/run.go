package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// skips are checks that tests leave out, to see that the tests would notice.
type skips struct {
	parseFrame func(b []byte, id uuid.UUID) (*segment.Frame, error) // instead of segment.ParseFrame
	openNote   func(note []byte) (tree.Checkpoint, error)           // instead of the trust file
	chain      bool                                                 // frontiers in headers
	headers    bool                                                 // headers against each other
	missing    bool                                                 // segments that are missing
	roots      bool                                                 // all signed roots
	receipts   bool
	anchors    bool
	history    bool
	latest     bool
	length     bool // signed checkpoints beyond the end
	seq, boot  bool
	names      bool // of logs, in records and origins
	begins     bool // logs that begin late
	tiles      bool
	policies   bool
	runs       bool // of the two logs against each other
	decode     bool

	openSuccession func(note []byte) (tree.Succession, error) // instead of both signatures
	covered        bool                                       // that a checkpoint covers what a key says of the next
	handed         bool                                       // that the log is what a key says that it hands over

	proofs, counts, matches, files, manifest, period bool // of bundles
}

// run is one call of Run.
type run struct {
	ctx    context.Context
	path   string
	opts   Options
	skip   skips
	report *Report
	folder folder
	began  time.Time
	judges *judges

	trust    *tree.Trust // what is believed: the trust file, and keys that followed on its; workers only read it
	followed []handover
	former   []former

	done, total int64
	shown       time.Time

	mu   sync.Mutex
	base string // audit origin
}

func newRun(ctx context.Context, path string, opts Options) *run {
	r := &run{ctx: ctx, path: path, opts: opts, skip: opts.skip, report: &Report{Path: path}, began: time.Now(), base: opts.Origin, trust: opts.Trust}
	r.judges = newJudges(r)
	return r
}

func (r *run) run() (*Report, error) {
	err := r.check()
	if err == nil {
		err = context.Cause(r.ctx)
	}
	p := r.report
	p.Elapsed = time.Since(r.began)
	if s := p.Elapsed.Seconds(); s > 0 {
		p.PerSecond = float64(p.Records) / s
	}
	p.sort()
	if err != nil {
		p.Result = CannotRun
		return p, fmt.Errorf("verifying %s: %w", r.path, err)
	}
	r.progress(true)
	return p, nil
}

func (r *run) check() error {
	info, err := os.Stat(r.path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		r.report.Kind = "bundle"
		return r.bundle()
	}
	r.report.Kind = "directory"
	root, err := os.OpenRoot(r.path)
	if err != nil {
		return err
	}
	defer root.Close()
	r.folder = folder{root}
	return r.directory()
}

// directory checks an audit directory.
//
// The control log is read twice: first for what it says of the decision log, and after that one for itself, when all is
// known that the decision log says of it. In a live directory each log has then been read after what is said of it.
func (r *run) directory() error {
	if !r.folder.exists(audit.DecisionLog) && !r.folder.exists(audit.ControlLog) {
		return errors.New("this is neither an audit directory nor an evidence bundle")
	}
	if err := r.oddFolders(); err != nil {
		return err
	}
	if err := r.checkPolicies(); err != nil {
		return err
	}
	r.topLevel()
	r.measure()
	early, err := r.followKeys()
	if err != nil {
		return err
	}
	decision := r.newLog(audit.DecisionLog, false)
	if err := decision.check(slices.Concat(early.anchors, r.receipts(audit.DecisionLog), r.handed(audit.DecisionLog))); err != nil {
		return err
	}
	control := r.newLog(audit.ControlLog, false)
	if err := control.check(slices.Concat(decision.anchors, r.receipts(audit.ControlLog), r.handed(audit.ControlLog))); err != nil {
		return err
	}
	decision.begins(control)
	control.begins(control)
	r.compareSizes(decision, control)
	r.compareRuns(decision, control)
	if err := r.rederiveAgain(decision); err != nil {
		return err
	}
	r.judges.missing()
	r.report.Logs = []*LogReport{decision.out, control.out}
	r.report.Records = decision.out.Size - decision.out.First + control.out.Size - control.out.First
	return nil
}

// oddFolders reports what is in the place of a folder and is none. It is not looked into.
func (r *run) oddFolders() error {
	for _, name := range []string{audit.DecisionLog, audit.ControlLog, audit.DecisionLog + "/tree", audit.ControlLog + "/tree",
		audit.DecisionLog + tileFolder, audit.ControlLog + tileFolder, policiesFolder} {
		if above := path.Dir(name); above != "." && !r.folder.isFolder(above) {
			continue
		}
		err := r.folder.notFolder(name)
		if isDisk(err) {
			return err
		}
		if err != nil {
			log, _, _ := strings.Cut(name, "/")
			if log == policiesFolder {
				log = ""
			}
			r.report.add(Finding{Severity: Tampered, Class: ClassUnreadable, Log: log, File: name, Text: fmt.Sprintf("%s cannot be read: %v", name, err)})
		}
	}
	return nil
}

func (r *run) newLog(name string, quiet bool) *logCheck {
	other := audit.ControlLog
	if name == other {
		other = audit.DecisionLog
	}
	l := &logCheck{run: r, name: name, other: other, out: &LogReport{Log: name}, quiet: quiet}
	l.full = !quiet && (r.opts.Decode || r.opts.Rederive != nil) && !r.skip.decode
	l.peer = &logCheck{run: r, name: other, other: name}
	l.tailSeq, l.tailOK = r.folder.acknowledgedTo(name)
	return l
}

// receipts are those of the trust file about a log.
func (r *run) receipts(log string) []claim {
	if r.opts.Trust == nil {
		return nil
	}
	var claims []claim
	for _, receipt := range r.opts.Trust.Receipts() {
		base, epoch, ok := splitOrigin(receipt.Origin, log)
		if ok && base == r.agreeOn(base) {
			claims = append(claims, claim{size: receipt.Size, root: receipt.Root, epoch: epoch, from: fromReceipt, place: uint64(receipt.Line)})
		}
	}
	return claims
}

// oneMissing reports that a log is not there whose sibling has records: each run of a gateway writes to both.
func (r *run) oneMissing(a, b *logCheck) {
	for _, pair := range [][2]*logCheck{{a, b}, {b, a}} {
		l, other := pair[0], pair[1]
		if l.out.Segments == 0 && other.out.Size > 0 && !r.skip.missing {
			l.add(Finding{Severity: Tampered, Class: ClassSegment, File: l.name,
				Text: fmt.Sprintf("the %s log is not there, and the %s log has had %d records", l.name, other.name, other.out.Size)})
		}
	}
}

// list lists a log's segments, and what else is in its folder.
func (l *logCheck) list() ([]segmentFile, error) {
	if !l.folder.isFolder(l.name) {
		return nil, nil
	}
	return l.folder.listSegments(l.name, func(e fs.DirEntry) {
		name := e.Name()
		known := name == "tail" || name == "reserve" || name == "tree" && e.IsDir() || strings.HasSuffix(name, ".tmp")
		if !known {
			l.unknown(l.name + "/" + name)
		}
		if name == "tree" && e.IsDir() {
			l.listTree()
		}
	})
}

func (l *logCheck) listTree() {
	for e, err := range l.folder.list(l.name + "/tree") {
		if err != nil {
			return
		}
		switch name := e.Name(); {
		case name == "checkpoint", name == "history", name == "durable", strings.HasSuffix(name, ".tmp"):
		case name == "tile" && e.IsDir():
		default:
			l.unknown(l.name + "/tree/" + name)
		}
	}
}

// topLevel looks for files that belong to no audit directory.
func (r *run) topLevel() {
	for e, err := range r.folder.list(".") {
		if err != nil {
			return
		}
		switch e.Name() {
		case audit.DecisionLog, audit.ControlLog, "policies", "sinks", "search", "lock", "reserve":
		default:
			r.unknown(e.Name())
		}
	}
}

// unknown remarks on a file that belongs to no audit log.
func (r *run) unknown(name string) {
	if strings.HasSuffix(name, ".tmp") { // what a crash leaves of a file that was about to be replaced
		return
	}
	r.report.add(Finding{Severity: Pass, Class: ClassUnknown, File: name, Text: fmt.Sprintf("%q belongs to no audit log", name)})
}

func (l *logCheck) unknown(name string) {
	if !l.quiet {
		l.run.unknown(name)
	}
}

// measure estimates how much there is to read.
func (r *run) measure() {
	for _, log := range []string{audit.ControlLog, audit.ControlLog, audit.DecisionLog} {
		files, err := r.folder.listSegments(log, func(fs.DirEntry) {})
		if err != nil {
			continue
		}
		for _, s := range files {
			name := segment.Name(log, s.number)
			if !s.raw {
				name = segment.SealedName(log, s.number)
			}
			if info, err := r.folder.root.Lstat(filepath.FromSlash(name)); err == nil {
				r.total += info.Size()
			}
		}
	}
}

// progressed counts a chunk and, now and then, says so. It ends a run whose context has ended.
func (l *logCheck) progressed(c *chunk) error {
	r := l.run
	r.done += int64(len(c.buf))
	if !l.quiet {
		r.report.Bytes += int64(len(c.buf))
		r.report.Records += uint64(len(c.leaves))
		r.report.Rederived += c.rederived
	}
	if time.Since(r.shown) > progressEvery {
		r.progress(false)
	}
	return context.Cause(r.ctx)
}

// progressEvery is how often Progress is called.
const progressEvery = 200 * time.Millisecond

func (r *run) progress(last bool) {
	r.shown = time.Now()
	if r.opts.Progress == nil {
		return
	}
	p := Progress{Done: r.done, Total: max(r.done, r.total), Records: r.report.Records, Elapsed: time.Since(r.began)}
	if last {
		p.Total = p.Done
	}
	if s := p.Elapsed.Seconds(); s > 0 {
		p.PerSecond = float64(p.Records) / s
	}
	r.opts.Progress(p)
}
