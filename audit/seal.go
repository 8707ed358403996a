package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sallyport/audit/segment"
)

// sealShare is which part of one core sealing takes at most: after each chunk of a megabyte it pauses so many times as long
// as the chunk took. Requests have the rest.
const sealShare = 3

// pause is how sealing gives way to everything else after it worked so long.
func pause(ctx context.Context, worked time.Duration) error {
	timer := time.NewTimer(sealShare * worked)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

// sealNext seals the oldest segment of a log that is to be sealed, and reports whether there was one. A segment is, when it
// has a durable successor and a signed checkpoint covers all its records: what was signed is not touched by anyone any more.
func (a *Audit) sealNext(ctx context.Context, l *Log) (sealed bool, err error) {
	h := a.upkeep
	if !h.seal {
		return false, nil
	}
	list, err := listForms(a.fs, l.name)
	if err != nil {
		return false, err
	}
	for i := 0; i < len(list)-1; i++ {
		name := segment.Name(l.name, list[i].number)
		if !list[i].raw || h.rests(name) {
			continue
		}
		successor, err := openHeader(a.fs, l.name, list[i+1].number)
		if err != nil {
			return false, err
		}
		if successor.FirstSeq() > a.covered(l.name) {
			return false, nil
		}
		s := &sealing{fs: a.fs, log: l.name, number: list[i].number, successor: successor, rest: h.pacing(ctx)}
		if !a.roomToSeal(successor.PrevEnd) {
			return false, nil
		}
		if err := s.seal(list[i].sealed); err != nil {
			h.rest(name)
			return false, fmt.Errorf("sealing %s: %w", name, err)
		}
		h.storage.sealed.Add(1)
		h.storage.from.Add(uint64(successor.PrevEnd))
		h.storage.to.Add(uint64(s.length))
		return true, nil
	}
	return false, nil
}

// roomToSeal reports whether a segment can be sealed without taking the space that the logs are about to need.
func (a *Audit) roomToSeal(size int64) bool {
	free, _, known := diskSpace(a.fs)
	return !known || free >= 2*uint64(size)
}

// pacing returns what is called between two chunks. On a disk that is almost full there is no time for pauses.
func (h *upkeep) pacing(ctx context.Context) func() error {
	began := time.Now()
	return func() error {
		if h.level == diskCritical {
			return context.Cause(ctx)
		}
		err := h.slower(ctx, time.Since(began))
		began = time.Now()
		return err
	}
}

// sealing is one segment being sealed.
type sealing struct {
	fs        FileSystem
	log       string
	number    uint64
	successor *segment.Header
	rest      func() error
	length    int64 // of the sealed form
}

// seal replaces the raw form by the sealed one. At any moment the raw form is there, or a sealed one that is durable and
// was read back; there says that a sealed form of an earlier attempt is there beside the raw one.
func (s *sealing) seal(there bool) error {
	if !there || s.proven() != nil {
		if err := s.write(); err != nil {
			return err
		}
	}
	if err := s.fs.SyncDir(s.log); err != nil {
		return err
	}
	// Should the raw form come back by a power cut, both are there, and this is done again.
	return s.fs.Remove(segment.Name(s.log, s.number))
}

// proven is nil when the sealed form that is there holds every record that the successor says the segment has.
func (s *sealing) proven() error {
	sealed, err := openForm(s.fs, segment.SealedName(s.log, s.number), true)
	if err != nil {
		return err
	}
	defer sealed.Close()
	s.length, _ = sealed.file.Size()
	return s.measure(sealed, sealed.size)
}

// measure checks a segment's every record against the tree that its successor's header states.
func (s *sealing) measure(r io.ReaderAt, size int64) error {
	h, err := segment.ReadHeader(r, s.log, s.number)
	if err == nil {
		err = segment.MeasureSealed(r, h, s.successor)
	}
	if err == nil && size != s.successor.PrevEnd {
		err = fmt.Errorf("segment has %d bytes, its successor says %d", size, s.successor.PrevEnd)
	}
	return err
}

// write makes the sealed form, reads it back, and gives it its name.
func (s *sealing) write() error {
	raw, err := openForm(s.fs, segment.Name(s.log, s.number), false)
	if err != nil {
		return err
	}
	defer raw.Close()
	end := s.successor.PrevEnd
	// A damaged segment stays as it is, for people to look at.
	if err := s.measure(raw, end); err != nil {
		return err
	}
	name := segment.SealedName(s.log, s.number)
	temporary := name + temporarySuffix
	if err := s.writeTo(temporary, raw, end); err != nil {
		return errors.Join(err, removeIfThere(s.fs, temporary))
	}
	return s.fs.Rename(temporary, name)
}

func (s *sealing) writeTo(name string, raw io.ReaderAt, end int64) error {
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	s.length, err = segment.Seal(f, raw, end, s.rest)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.compare(f, raw, end)
	}
	return errors.Join(err, f.Close())
}

// compare reads back what was written and compares it with the raw form, byte by byte.
func (s *sealing) compare(f File, raw io.ReaderAt, end int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	sealed, err := segment.OpenSealed(f, size)
	if err != nil {
		return err
	}
	if sealed.Size() != end {
		return fmt.Errorf("sealed form has %d bytes, not %d", sealed.Size(), end)
	}
	want, got := make([]byte, min(compareLen, end)), make([]byte, min(compareLen, end))
	for at := int64(0); at < end; at += compareLen {
		n := min(compareLen, end-at)
		if _, err := raw.ReadAt(want[:n], at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := sealed.ReadAt(got[:n], at); err != nil {
			return err
		}
		if !bytes.Equal(want[:n], got[:n]) {
			return fmt.Errorf("sealed form differs from the raw one after %d", at)
		}
	}
	return nil
}

// compareLen is how much is compared at a time.
const compareLen = 1 << 20
