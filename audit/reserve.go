package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"sallyport/audit/segment"
)

// The reserve is a blank of the smallest segment that lies ready in the control log's folder. When the disk is full and
// that log needs its next segment, the reserve becomes it, and its first record says that the disk is full.
const (
	reserveSize = smallestSegment
	reserveBase = "reserve"
)

func reserveName(log string) string { return path.Join(log, reserveBase) }

// keepReserve makes the reserve unless it is there.
func (a *Audit) keepReserve() error {
	a.control.blanks.reserving.Lock()
	defer a.control.blanks.reserving.Unlock()
	name := reserveName(ControlLog)
	b, err := openReserve(a.fs, ControlLog)
	if err == nil {
		return b.file.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temporary := name + temporarySuffix
	f, err := a.fs.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC|wholeBlocks)
	if err != nil {
		return fmt.Errorf("making the reserve: %w", err)
	}
	made := &blank{f, temporary, reserveSize}
	if err := made.fill(); err != nil {
		return errors.Join(fmt.Errorf("making the reserve: %w", err), made.discard(a.fs))
	}
	if err := errors.Join(f.Close(), a.fs.Rename(temporary, name)); err != nil {
		return fmt.Errorf("making the reserve: %w", err)
	}
	return a.fs.SyncDir(ControlLog)
}

// openReserve opens the reserve. One that is not blank, since a power cut came while it was becoming a segment, is removed
// and does not exist.
func openReserve(fsys FileSystem, log string) (*blank, error) {
	b := &blank{name: reserveName(log), size: reserveSize}
	f, err := fsys.OpenFile(b.name, os.O_RDWR|wholeBlocks)
	if err != nil {
		return nil, fmt.Errorf("opening the reserve: %w", err)
	}
	b.file = f
	size, err := f.Size()
	if err == nil && size == reserveSize {
		var whole bool
		if whole, err = isBlank(f, size); whole {
			return b, nil
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the reserve: %w", err), f.Close())
	}
	return nil, errors.Join(fs.ErrNotExist, b.discard(fsys))
}

func isBlank(f io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return false, err
	}
	for _, c := range b {
		if c != 0 {
			return false, nil
		}
	}
	return true, nil
}

// useReserve goes on in the reserve when cause, which kept h's segment from being made, is a full disk. What it records
// first becomes durable with the segment itself.
func (l *Log) useReserve(h *segment.Header, cause error) error {
	if l.name != ControlLog || !errors.Is(cause, syscall.ENOSPC) {
		return cause
	}
	l.blanks.reserving.Lock()
	defer l.blanks.reserving.Unlock()
	b, err := openReserve(l.fs, l.name)
	if errors.Is(err, fs.ErrNotExist) {
		return cause
	}
	if err != nil {
		return errors.Join(cause, err)
	}
	e, err := l.entry(diskFullRecord(l.name, l.now()))
	if err != nil {
		panic("BUG: the log's own record: " + err.Error())
	}
	defer l.release(e)
	first := l.assemble(h.ID, []*entry{e})
	next, err := b.become(l.fs, h, first)
	if err != nil {
		return errors.Join(cause, err)
	}
	l.log.Error("the disk is full: the control log goes on in its reserve", "segment", next.name, "error", cause)
	l.seg.retire()
	l.seg = next
	l.growth.add(hashFrame(nil, first))
	l.nextSeq++
	return nil
}
