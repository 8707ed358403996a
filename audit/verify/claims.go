package verify

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"sallyport/audit/tree"
)

// claim is what somebody who is trusted signed: that a log had so many records and this root.
type claim struct {
	size  uint64
	root  tree.Hash
	epoch uint32
	from  claimSource
	place uint64 // a line of the trust file, the number of a note of the history, or a heartbeat's seq
}

type claimSource uint8

const (
	fromLatest claimSource = iota
	fromHistory
	fromReceipt
	fromAnchor
	fromPrevious
	fromSuccession // what a key that hands over says of the log
)

// where says where a claim was found.
func (l *logCheck) where(c claim) string {
	switch c.from {
	case fromLatest:
		return l.name + "/tree/checkpoint"
	case fromHistory:
		return fmt.Sprintf("checkpoint %d of %s/tree/history", c.place, l.name)
	case fromReceipt:
		return fmt.Sprintf("the receipt at line %d of the trust file", c.place)
	case fromAnchor:
		return fmt.Sprintf("the heartbeat %d of the %s log", c.place, l.other)
	case fromSuccession:
		return fmt.Sprintf("the change of keys that record %d of the control log tells of", c.place)
	}
	return fmt.Sprintf("what the signed series %d says of the one before", c.epoch)
}

// class is that of a claim that does not hold.
func (c claim) class(otherwise Class) Class {
	if c.from == fromAnchor {
		return ClassAnchor
	}
	return otherwise
}

const (
	// maxNote bounds a signed checkpoint; ours have some 250 bytes.
	maxNote = 16 << 10
	// previousName begins the extension line with which a successor series of checkpoints says what it continues.
	previousName = "previous "
)

// splitOrigin reads the origin of a log's checkpoint: of the audit origin base, for this log, in the series epoch.
func splitOrigin(origin, log string) (base string, epoch uint32, ok bool) {
	if base, ok = strings.CutSuffix(origin, "/"+log); ok {
		return base, 1, base != ""
	}
	at := strings.LastIndexByte(origin, '/')
	if at < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(origin[at+1:], 10, 32)
	if err != nil || n < 2 || strconv.FormatUint(n, 10) != origin[at+1:] {
		return "", 0, false
	}
	base, ok = strings.CutSuffix(origin[:at], "/"+log)
	return base, uint32(n), ok && base != ""
}

// open reads a signed checkpoint that should be of this log. What is wrong with it is a finding.
func (l *logCheck) open(note []byte, file string) (claim, tree.Checkpoint, *Finding) {
	bad := func(severity Result, class Class, format string, args ...any) *Finding {
		return &Finding{Severity: severity, Class: class, Log: l.name, File: file, Text: fmt.Sprintf(format, args...)}
	}
	c, err := l.openNote(note)
	switch {
	case errors.Is(err, tree.ErrUntrusted):
		return claim{}, c, bad(Untrusted, ClassSignature, "a checkpoint of the %s log is signed by nobody who is trusted: %v", l.name, err)
	case err != nil:
		return claim{}, c, bad(Tampered, ClassSignature, "a checkpoint of the %s log is not what was signed: %v", l.name, err)
	}
	base, epoch, ok := splitOrigin(c.Origin, l.name)
	if !ok && !l.skip.names {
		return claim{}, c, bad(Tampered, ClassOrigin, "a checkpoint that should be of the %s log is of %q", l.name, c.Origin)
	}
	if want := l.agreeOn(base); base != want && !l.skip.names {
		return claim{}, c, bad(Tampered, ClassOrigin, "a checkpoint of %q is among those of %q", c.Origin, want+"/"+l.name)
	}
	return claim{size: c.Size, root: c.Root, epoch: epoch}, c, nil
}

// openNote checks the signature of a checkpoint.
func (l *logCheck) openNote(note []byte) (tree.Checkpoint, error) {
	if l.skip.openNote != nil {
		return l.skip.openNote(note)
	}
	if l.trust == nil {
		return tree.Checkpoint{}, tree.ErrUntrusted
	}
	c, err := l.trust.Open(note)
	if errors.Is(err, tree.ErrUntrusted) {
		return l.openFormer(note, err)
	}
	return c, err
}

// agreeOn is the audit origin that all checkpoints must be of: what was asked for, or the first that was seen.
func (r *run) agreeOn(base string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.base == "" {
		r.base = base
	}
	return r.base
}

// previous is the claim of a checkpoint of a successor series about the series before.
func (l *logCheck) previous(c tree.Checkpoint, epoch uint32) (p claim, f *Finding) {
	bad := func(format string, args ...any) *Finding {
		return &Finding{Severity: Tampered, Class: ClassOrigin, Log: l.name, Text: fmt.Sprintf(format, args...)}
	}
	if epoch < 2 {
		return p, nil
	}
	i := slices.IndexFunc(c.Extensions, func(line string) bool { return strings.HasPrefix(line, previousName) })
	if i < 0 {
		return p, nil
	}
	fields := strings.Split(strings.TrimPrefix(c.Extensions[i], previousName), " ")
	before, err := tree.ParseCheckpointBody([]byte(strings.Join(fields, "\n") + "\n"))
	if err != nil || len(fields) != 3 {
		return p, bad("%s does not say what it continues: %q", c.Origin, c.Extensions[i])
	}
	base, n, ok := splitOrigin(before.Origin, l.name)
	if !ok || base != l.agreeOn(base) || n != epoch-1 {
		return p, bad("%s says that it continues %q", c.Origin, before.Origin)
	}
	return claim{size: before.Size, root: before.Root, epoch: n, from: fromPrevious, place: uint64(epoch)}, nil
}

// history reads the kept checkpoints of a log one by one, in step with its records, since there are half a million a year.
type history struct {
	l       *logCheck
	file    *os.File
	scanner *bufio.Scanner
	size    int64
	read    uint64 // notes
	next    claim
	more    bool // next is there
	sizeNow uint64
	epoch   uint32
	trusted uint64
}

func (l *logCheck) openHistory(name string) (*history, error) {
	file, size, err := l.folder.open(name)
	if err != nil {
		return nil, err
	}
	h := &history{l: l, file: file, size: size, scanner: bufio.NewScanner(io.NewSectionReader(file, 0, size))}
	h.scanner.Buffer(make([]byte, 4096), maxNote)
	h.scanner.Split(tree.ScanNotes)
	l.successors(h)
	h.advance()
	return h, nil
}

// advance goes to the next note that is trusted.
func (h *history) advance() {
	for h.more = false; !h.more && h.scanner.Scan(); {
		h.read++
		h.take(h.scanner.Bytes())
	}
	if err := h.scanner.Err(); err != nil && !h.more {
		h.l.add(Finding{Severity: Tampered, Class: ClassSignature, File: h.l.name + "/tree/history",
			Text: fmt.Sprintf("the history of checkpoints cannot be read: %v", err)})
	}
}

func (h *history) take(note []byte) {
	l := h.l
	c, cp, f := l.open(note, l.name+"/tree/history")
	switch {
	case f != nil && h.torn(note):
		l.add(Finding{Severity: Gaps, Class: ClassTail, File: l.name + "/tree/history", Text: "the last entry of the history of checkpoints is cut off"})
		return
	case f != nil:
		l.foreign = l.foreign || f.Severity == Untrusted
		f.Text += fmt.Sprintf(" (note %d)", h.read)
		l.add(*f)
		return
	case c.epoch < h.epoch || c.epoch == h.epoch && c.size < h.sizeNow:
		l.add(Finding{Severity: Tampered, Class: ClassSequence, File: l.name + "/tree/history",
			Text: fmt.Sprintf("note %d of the history, of %s with %d records, comes after one with %d", h.read, cp.Origin, c.size, h.sizeNow)})
		return
	}
	if c.epoch > h.epoch && !said(cp) {
		l.continues(cp, c.epoch)
	}
	c.from, c.place = fromHistory, h.read
	h.epoch, h.sizeNow, h.next, h.more = c.epoch, c.size, c, true
	h.trusted++
}

// said reports whether a checkpoint says what its series continues.
func said(c tree.Checkpoint) bool {
	return slices.ContainsFunc(c.Extensions, func(s string) bool { return strings.HasPrefix(s, previousName) })
}

// successors looks through a history for what series of checkpoints say of those before them: it must be known before the
// records are read.
func (l *logCheck) successors(h *history) {
	s := bufio.NewScanner(io.NewSectionReader(h.file, 0, h.size))
	s.Buffer(make([]byte, 4096), maxNote)
	s.Split(tree.ScanNotes)
	var last []byte
	for s.Scan() {
		_, line, ok := bytes.Cut(s.Bytes(), []byte("\n"+previousName))
		if line, _, _ = bytes.Cut(line, []byte("\n")); !ok || bytes.Equal(line, last) {
			continue
		}
		last = bytes.Clone(line)
		if c, cp, f := l.open(s.Bytes(), ""); f == nil { // else it is reported when its turn comes
			l.continues(cp, c.epoch)
		}
	}
}

// torn reports whether the note is the rest of a write that was cut off: it ends with the file, without the empty line.
func (h *history) torn(note []byte) bool {
	tail := make([]byte, len(note)+2)
	n, _ := h.file.ReadAt(tail[:min(int64(len(tail)), h.size)], max(0, h.size-int64(len(tail))))
	return bytes.HasSuffix(tail[:n], note) && !bytes.HasSuffix(note, []byte("\n")) || bytes.HasSuffix(tail[:n], note) && !bytes.Contains(note, []byte("\n\n"))
}

func (h *history) close() {
	_ = h.file.Close() // it was only read
}

// continues notes what a successor series says of the one before.
func (l *logCheck) continues(cp tree.Checkpoint, epoch uint32) {
	p, f := l.previous(cp, epoch)
	switch {
	case f != nil:
		l.add(*f)
	case p.from == fromPrevious:
		l.insert(p)
	case epoch > 1:
		l.gap(Gap{Class: ClassOrigin}, "the checkpoint of %s with %d records does not say what the series continues", cp.Origin, cp.Size)
	}
}

// insert adds a claim to those that are due in the order of sizes.
func (l *logCheck) insert(c claim) {
	i, _ := slices.BinarySearchFunc(l.due, c, func(a, b claim) int { return cmp.Compare(a.size, b.size) })
	if i < len(l.due) && l.due[i].size == c.size && l.due[i].root == c.root && l.due[i].from == c.from {
		return
	}
	l.due = slices.Insert(l.due, i, c)
}
