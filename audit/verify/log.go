package verify

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"sallyport/audit/segment"
	"sallyport/audit/tree"
)

// logCheck checks one log of a directory. Its fields belong to the collector, except those that workers only read.
type logCheck struct {
	*run
	name, other string
	peer        *logCheck // the other log, for reading its checkpoints only
	out         *LogReport
	quiet       bool // only gather what the other log needs
	full        bool // decode records

	due     []claim // by size
	history *history
	grow    growing
	tiles   *tileCheck
	anchors []claim // what this log's heartbeats say of the other
	pruned  []prunedTo

	handovers []handover // that records tell of
	newest    claim      // the greatest that holds
	again     again
	// readings is the seq from which on the log holds nothing but announcements of readings, each by a run that wrote
	// nothing else: a command that reads the logs leaves one where no gateway runs, and with it no checkpoint.
	readings uint64
	seen     bool // somebody trusted signed something about this log
	own      bool // and it is in this log's folder
	foreign  bool // somebody else did
	gaveUp   bool // the key process's operator stated a loss
	runs     []runTrace

	tailSeq uint64 // what the tail file said before the log was read
	tailOK  bool

	begun       bool
	firstNumber uint64
	firstRoot   tree.Hash // of all before
	prev        *segment.Header
	headless    uint64 // number of the segment before whose header cannot be read
	broken      bool   // the rest of this segment is passed over
	at          int64  // up to where it was taken in
	reason      error  // why it broke
	unsure      bool   // records were passed over since the last header

	continuity
}

// check reads the log from its first segment to its last.
func (l *logCheck) check(receipts []claim) error {
	l.due = append(l.due, receipts...)
	if err := l.openClaims(); err != nil {
		return err
	}
	if l.history != nil {
		defer l.history.close()
	}
	slices.SortStableFunc(l.due, func(a, b claim) int { return cmp.Compare(a.size, b.size) })
	files, err := l.list()
	if err != nil {
		if err := l.unreadable(l.name, err); err != nil {
			return err
		}
	}
	l.out.Segments = len(files)
	l.tiles = l.openTiles()
	l.grow.made = l.tiles.made
	s := newScanner(l.folder, l.name, files, l.opts.Workers, l.work)
	if err := s.scan(l.ctx, l.opts.Workers, l.collect); err != nil {
		return err
	}
	l.finish(files)
	return nil
}

// add adds a finding about this log.
func (l *logCheck) add(f Finding) {
	if l.quiet {
		return
	}
	if f.Log == "" {
		f.Log = l.name
	}
	l.report.add(f)
}

// openClaims reads the newest checkpoint and begins with the history.
func (l *logCheck) openClaims() error {
	name := l.name + "/tree/checkpoint"
	note, err := l.folder.read(name, maxNote)
	if err == nil {
		c, cp, f := l.open(note, name)
		if f != nil {
			l.foreign = l.foreign || f.Severity == Untrusted
			l.add(*f)
		} else {
			l.continues(cp, c.epoch)
			l.insert(c)
		}
	} else if err := l.unreadable(name, err); err != nil {
		return err
	}
	name = l.name + "/tree/history"
	if l.history, err = l.openHistory(name); err != nil {
		return l.unreadable(name, err)
	}
	return nil
}

// unreadable says what to make of a file that could not be read: nothing where there is none, a finding where something
// else has its name, an error where the disk failed.
func (l *logCheck) unreadable(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case isDisk(err):
		return err
	}
	l.add(Finding{Severity: Tampered, Class: ClassUnreadable, File: name, Text: fmt.Sprintf("%s cannot be read: %v", name, err)})
	return nil
}

// collect takes the parts of the log in order.
func (l *logCheck) collect(p part) error {
	switch {
	case p.begin != nil:
		return l.begin(p.begin)
	case p.chunk != nil:
		l.chunk(p.chunk)
		return l.progressed(p.chunk)
	}
	return l.end(p.end)
}

// begin checks a segment's header against what came before.
func (l *logCheck) begin(x *stretch) error {
	l.broken, l.at, l.reason = false, segment.Block, nil
	if l.prev != nil && x.number > l.prev.Number+1 || l.headless > 0 && x.number > l.headless+1 {
		l.missing(max(l.headless, l.prevNumber())+1, x.number-1)
	}
	if x.header == nil {
		if isDisk(x.err) {
			return x.err
		}
		l.add(Finding{Severity: Tampered, Class: ClassSegment, File: x.name, Text: fmt.Sprintf("the segment cannot be read: %v", x.err)})
		l.headless, l.unsure = x.number, true
		return nil
	}
	h := x.header
	if err := l.fits(h); err != nil && !l.skip.headers {
		l.add(Finding{Severity: Tampered, Class: ClassSegment, Seq: h.FirstSeq(), File: x.name, Text: fmt.Sprintf("the segment's header does not fit: %v", err)})
	}
	if !l.begun {
		l.first(x)
	} else if !l.grow.is(&h.Before) {
		if !l.unsure && !l.skip.chain {
			l.add(Finding{Severity: Tampered, Class: ClassRoot, Seq: h.FirstSeq(), File: x.name, Text: fmt.Sprintf(
				"the segment says that it begins after %d records with root %s; those before it are %s", h.FirstSeq(), h.Before.Root(), &l.grow)})
		}
		l.restart(h)
	}
	l.newRun(h)
	l.prev, l.headless, l.unsure = h, 0, false
	return l.compareForms(x)
}

func (l *logCheck) prevNumber() uint64 {
	if l.prev == nil {
		return 0
	}
	return l.prev.Number
}

func (l *logCheck) missing(from, to uint64) {
	l.unsure = true
	if l.skip.missing {
		return
	}
	which := fmt.Sprintf("segment %d is", from)
	if to > from {
		which = fmt.Sprintf("segments %d to %d are", from, to)
	}
	l.add(Finding{Severity: Tampered, Class: ClassSegment, File: segment.Name(l.name, from), Text: which + " missing from the middle of the log"})
}

// fits checks a header against the one before, which is that of the predecessor unless something is missing.
func (l *logCheck) fits(h *segment.Header) error {
	switch prev := l.prev; {
	case prev == nil && h.Number == 1 && (h.FirstSeq() != 0 || h.PrevEnd != 0):
		return errors.New("the first segment does not begin with record 0")
	case prev == nil:
		return nil
	case prev.Number+1 != h.Number:
		if h.FirstSeq() < prev.FirstSeq() || h.BootN < prev.BootN {
			return errors.New("its first record or its boot is older than that of a segment before")
		}
		return nil
	case h.BootN == prev.BootN && h.Boot != prev.Boot:
		return fmt.Errorf("boot %d has two ids, %s and %s", h.BootN, prev.Boot, h.Boot)
	}
	return h.Follows(l.prev)
}

// first begins the tree where the log's oldest segment does.
func (l *logCheck) first(x *stretch) {
	l.begun = true
	l.out.First, l.firstNumber, l.firstRoot = x.header.FirstSeq(), x.number, x.header.Before.Root()
	l.restart(x.header)
}

// restart goes on from what a header says, and from there on believes it as little as before: the next signed root that
// holds covers it.
func (l *logCheck) restart(h *segment.Header) {
	l.grow.restart(&h.Before)
	l.tiles.restart(&h.Before)
	l.skipDue()
	l.checkDue()
}

// compareForms compares the sealed form of a segment with the raw one where both are there.
func (l *logCheck) compareForms(x *stretch) error {
	if !x.other || x.src.sealed || l.quiet {
		return nil
	}
	name := segment.SealedName(l.name, x.number)
	other, err := l.folder.openForm(name, true)
	if err != nil {
		return l.unreadable(name, err)
	}
	defer other.Close()
	same, err := sameBytes(x.src, other, other.size)
	if err != nil && isDisk(err) {
		return err
	}
	if !same || err != nil {
		l.add(Finding{Severity: Tampered, Class: ClassSegment, File: name, Text: "the sealed segment is another than the one it was made of"})
	}
	return nil
}

// chunk adds what a worker made of a chunk.
func (l *logCheck) chunk(c *chunk) {
	if l.broken {
		return
	}
	if len(c.leaves) > 0 {
		l.leaves(c)
		l.follow(c)
	}
	for _, f := range c.found {
		l.add(f)
	}
	if !l.quiet {
		l.report.Omitted += c.more
	}
	l.out.Tiles += c.tiles
	l.at = c.at + int64(len(c.buf))
	if c.bad != nil {
		l.broken, l.at, l.reason = true, c.badAt, c.bad
	}
}

// end checks where a segment ends.
func (l *logCheck) end(x *stretch) error {
	if x.header == nil {
		return nil
	}
	if isDisk(x.err) {
		return x.err
	}
	l.out.Size = l.grow.size
	switch whole := !l.broken && l.at == x.limit; {
	case whole && !x.last:
	case x.last && !x.src.sealed:
		return l.tail(x)
	case !whole:
		l.add(x.damaged(l.name, l.at, l.grow.size, l.why(x)))
		l.unsure = true
	}
	return nil
}

func (l *logCheck) why(x *stretch) error {
	if err := cmp.Or(l.reason, x.err); err != nil {
		return err
	}
	return fmt.Errorf("its end is said to be at %d", x.limit)
}

// tail judges what follows the frames of the log's last segment: nothing, what a power cut leaves of one frame, or damage.
// package segment knows; it is shown the segment as if its frames began here.
func (l *logCheck) tail(x *stretch) error {
	shift := l.at - segment.Block
	h := *x.header
	h.Before, h.Size = l.grow.frontier(), h.Size-shift
	rest := &shifted{x.src, shift}
	extent, err := segment.MeasureLast(rest, x.src.size-shift, &h)
	if damage, ok := errors.AsType[*segment.Damage](err); ok {
		l.add(x.damaged(l.name, damage.Offset+shift, damage.Seq, damage.Err))
		return nil
	}
	if err != nil {
		return err
	}
	if extent.Dropped > 0 {
		l.gap(Gap{Class: ClassTail, First: l.grow.size, End: l.grow.size},
			"the log ends in an incomplete batch of %d bytes, at %d of %s, as a power cut leaves it or a write under way", extent.Dropped, l.at, x.name)
	}
	if extent.Missing > 0 {
		l.gap(Gap{Class: ClassTail, First: l.grow.size, End: l.grow.size},
			"%s is %d bytes shorter than it was made: it was cut, or a copy was interrupted", x.name, extent.Missing)
	}
	return nil
}

// shifted is a segment without the frames before shift.
type shifted struct {
	r     io.ReaderAt
	shift int64
}

func (s *shifted) ReadAt(b []byte, at int64) (int, error) { return s.r.ReadAt(b, at+s.shift) }

// finish compares the end of the log with what was signed.
func (l *logCheck) finish(files []segmentFile) {
	l.out.Size = l.grow.size
	l.checkDue()
	l.shorter()
	l.endRun()
	l.tiles.finish()
	if l.quiet {
		return
	}
	l.acknowledged()
	switch unsigned := l.out.Size - l.newest.size; {
	case unsigned > 0 && l.seen && !l.own && !l.foreign:
		l.add(Finding{Severity: Incomplete, Class: ClassSignature, Seq: l.newest.size, Text: fmt.Sprintf(
			"%d records of the %s log are not signed, and its folder holds no signed checkpoint at all", unsigned, l.name)})
	case unsigned > 0 && l.seen && l.newest.size >= l.readings && l.newest.size >= l.out.First:
		l.add(Finding{Severity: Pass, Class: ClassTail, Seq: l.newest.size, Text: fmt.Sprintf(
			"%d records after the newest checkpoint say that somebody reads the log while no gateway runs: the next run signs them", unsigned)})
	case unsigned > 0 && l.seen:
		l.gap(Gap{Class: ClassTail, First: l.newest.size, End: l.out.Size}, "%d records after the newest checkpoint are not signed", unsigned)
	case l.out.Size > l.out.First && !l.seen && !l.foreign:
		l.add(Finding{Severity: Incomplete, Class: ClassSignature, Text: fmt.Sprintf("there is no signed checkpoint of the %s log", l.name)})
	}
}
