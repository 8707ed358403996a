package verify

import (
	"fmt"
	"math"
)

// leaves grows the tree, by whole groups where no claim is due within.
func (l *logCheck) leaves(c *chunk) {
	group := 0
	for i := 0; i < len(c.leaves); {
		next := l.nextDue()
		whole := l.grow.size%groupLen == 0 && len(c.leaves)-i >= groupLen
		if whole && next >= l.grow.size+groupLen {
			l.tiles.skipGroup()
			l.grow.group(c.groups[group])
			i += groupLen
		} else {
			l.grow.leaf(c.leaves[i])
			i++
		}
		if whole {
			group++
		}
		if l.grow.size == next {
			l.checkDue()
		}
	}
}

// nextDue is the size at which the next claim is to be compared.
func (l *logCheck) nextDue() uint64 {
	next := uint64(math.MaxUint64)
	if len(l.due) > 0 {
		next = l.due[0].size
	}
	if l.history != nil && l.history.more {
		next = min(next, l.history.next.size)
	}
	return next
}

// skipDue passes over claims about sizes that cannot be compared any more.
func (l *logCheck) skipDue() {
	for len(l.due) > 0 && l.due[0].size < l.grow.size {
		l.passed(l.due[0])
		l.due = l.due[1:]
	}
	for l.history != nil && l.history.more && l.history.next.size < l.grow.size {
		l.passed(l.history.next)
		l.history.advance()
	}
}

// passed notes a claim about a part of the log that is not there.
func (l *logCheck) passed(c claim) {
	if c.size > 0 {
		l.saw(c)
	}
	if c.from == fromReceipt && !l.unsure {
		l.gap(Gap{Class: ClassPruned, First: 0, End: c.size}, "the receipt at line %d of the trust file covers %d records, and the log begins with record %d: the two cannot be compared", c.place, c.size, l.grow.size)
	}
}

// checkDue compares the tree with all that was signed about its present size.
func (l *logCheck) checkDue() {
	for len(l.due) > 0 && l.due[0].size == l.grow.size {
		l.compare(l.due[0])
		l.due = l.due[1:]
	}
	for l.history != nil && l.history.more && l.history.next.size == l.grow.size {
		l.compare(l.history.next)
		l.history.advance()
	}
	if l.history != nil && l.history.more && l.history.next.size < l.grow.size {
		l.skipDue()
	}
}

// saw notes that there is a trusted checkpoint.
func (l *logCheck) saw(c claim) {
	l.seen = true
	l.own = l.own || c.from == fromLatest || c.from == fromHistory
}

func (l *logCheck) compare(c claim) {
	l.saw(c)
	if l.ignores(c) {
		return
	}
	if root := l.grow.root(); root != c.root && c.from == fromPrevious {
		l.lost(c)
	} else if root != c.root {
		l.add(Finding{Severity: Tampered, Class: c.class(ClassRoot), Seq: c.size, Text: fmt.Sprintf(
			"%s is signed for %d records with root %s; the records here have root %s", l.where(c), c.size, c.root, root)})
		return
	}
	l.out.Checkpoints++
	switch c.from {
	case fromReceipt:
		l.out.Receipts++
	case fromAnchor:
		l.out.Anchors++
	}
	if c.size >= l.newest.size {
		l.newest = c
		l.out.Signed = c.size
		l.out.Newest = &Checkpoint{Origin: l.originOf(c.epoch), Size: c.size, Root: c.root, From: l.where(c)}
		l.out.Origin = l.out.Newest.Origin
	}
}

// ignores is for tests: which claims a broken verifier would not look at.
func (l *logCheck) ignores(c claim) bool {
	return l.skip.roots || l.skip.receipts && c.from == fromReceipt || l.skip.anchors && c.from == fromAnchor ||
		l.skip.history && c.from == fromHistory || l.skip.latest && c.from == fromLatest
}

func (l *logCheck) originOf(epoch uint32) string {
	if epoch > 1 {
		return fmt.Sprintf("%s/%s/%d", l.agreeOn(""), l.name, epoch)
	}
	return l.agreeOn("") + "/" + l.name
}

// lost states that a series of checkpoints does not continue the one before: what the key process's operator gave up when
// opening it is said under a signature, and not there. A receipt of the old series contradicts it.
func (l *logCheck) lost(c claim) {
	l.gaveUp = true
	l.gap(Gap{Class: ClassOrigin, First: c.size, End: c.size}, "series %d of the %s log's checkpoints was opened after a loss: series %d had signed %d records with root %s, and the records here are not those",
		c.place, l.name, c.epoch, c.size, c.root)
}

// shorter reports signed checkpoints of more records than there are.
func (l *logCheck) shorter() {
	var most claim
	count := 0
	note := func(c claim) {
		l.saw(c)
		if l.ignores(c) || l.skip.length {
			return
		}
		if c.from == fromPrevious {
			l.lost(c)
			return
		}
		if count++; c.size > most.size {
			most = c
		}
	}
	for _, c := range l.due {
		note(c)
	}
	for ; l.history != nil && l.history.more; l.history.advance() {
		note(l.history.next)
	}
	if count > 0 {
		l.add(Finding{Severity: Tampered, Class: most.class(ClassRollback), Seq: l.grow.size, Text: fmt.Sprintf(
			"the %s log ends after %d records, and %s is signed for %d (%d signed checkpoints are beyond the end); a copy that was made file by file beside a running gateway looks the same: make it with sallyport audit copy",
			l.name, l.grow.size, l.where(most), most.size, count)})
	}
}
